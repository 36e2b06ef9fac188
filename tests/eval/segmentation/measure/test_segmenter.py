"""A benchmark and the segmenter give the same labels, and both use every setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eval.segmentation.measure import Bench, Extras, Row
from pacl.models.backbone import load_backbone
from pacl.models.model import PACL
from pacl.prompts import Label
from pacl.segmentation.segmenter import Segmenter
from tests.colours import noise
from tests.eval.segmentation.measure.benches import a_protocol, folder_of

SEGMENTED = {
    "templates": "photo", "size": 48, "scales": (1.0, 1.5), "accumulate": "patch", "interpolation": "bicubic",
    "logit_scale": 30.0, "prior": 0.7, "refine": 3, "refine_on": "probabilities",
}  # fmt: skip
NAMES = {"sky": ("sky", "a wall"), "grass": ("grass", "lawn", "bed"), "house": ("house number 3",), "x": ("x",)}


def labels_of_both(
    tmp_path: Path,
    clip: str,
    names: dict[str, tuple[str, ...]] = NAMES,
    smoothing: float = 0.2,
    calibrated: bool = False,
    **changes: object,
) -> tuple[np.ndarray, np.ndarray]:
    """What the benchmark and the segmenter say of one picture, [H, W] each, 0 where it is none of the names."""
    model = PACL.untrained(load_backbone(clip), dense="value", smoothing=smoothing, prior=0.2)
    if calibrated:
        model.config.presence = 0.01
        model.centre = 0.1 * F.normalize(torch.arange(16.0) - 7.5, dim=0)
    background = "background" in changes
    protocol = a_protocol(background_text=False, **{**SEGMENTED, **changes})
    labels = [Label(name, prompts) for name, prompts in names.items()]
    image = noise(60, 90)
    row = Row("pacl", model, protocol, [Label("none", ("none",)), *labels] if background else labels, background)
    ((*_, measured),) = next(Bench(folder_of(tmp_path), [row], Extras(), window_batch=3).predict([image]))
    segmenter = Segmenter(model, replace(protocol.settings, window_batch=3))
    segmenter.set_image(image)
    found = segmenter.predict(labels).index
    return measured + (not background), found


BOTH = {
    "all": {"background": "threshold:0.27"},
    "entropy": {"background": "entropy:1.37"},
    "no background": {},
    "the model's own prior, scales and scale": {
        "background": "threshold:0.18", "prior": None, "scales": None, "logit_scale": None,
    },
    "windows by pixel": {
        "background": "threshold:0.27", "scales": None, "window": 24, "window_step": 12, "accumulate": "pixel",
    },
    "overlapping patches": {"background": "threshold:0.27", "window": 32, "stride": 4},
    "calibrated": {"background": "peak:0.9", "calibrated": True, "templates": "none"},
    "a negative prior": {"background": "peak:0.9", "calibrated": True, "templates": "none", "prior": -0.3},
}  # fmt: skip


@pytest.mark.parametrize("changes", BOTH.values(), ids=BOTH)
def test_labels_are_those_that_the_segmenter_gives(tmp_path, tiny_clip, changes):
    measured, found = labels_of_both(tmp_path, tiny_clip, **changes)
    assert np.array_equal(measured, found)
    assert len(np.unique(found)) >= 3
    assert (0 in found) == ("background" in changes)


def test_each_setting_of_both_counts(tmp_path, tiny_clip):
    """Two that both forget a setting would be equal, too."""
    usual, _ = labels_of_both(tmp_path, tiny_clip, **BOTH["all"])
    first = {name: prompts[:1] for name, prompts in NAMES.items()}
    for changes in (
        *(
            {"prior": 0.0},
            {"prior": -0.7},
            {"smoothing": 0.0},
            {"refine": 0},
            {"names": first},
            {"background": "threshold:0.2"},
        ),
        *({"scales": (1.0,)}, {"templates": "none"}, {"logit_scale": 20.0}),
    ):
        measured, found = labels_of_both(tmp_path, tiny_clip, **{**BOTH["all"], **changes})
        assert np.array_equal(measured, found), changes
        assert not np.array_equal(measured, usual), changes
