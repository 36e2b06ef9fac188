"""What can be asked of a result, drawn and written."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pacl.errors import ArgumentError
from pacl.images import save_image
from pacl.results.same_image import is_same_source
from pacl.segmentation.result import Segmentation
from pacl.segmentation.segmenter import Segmenter
from tests.colours import ColourModel, noise
from tests.segmentation.red_square import SQUARE, run

LABELS = ["grey", "red", "blue"]


@pytest.fixture
def found() -> Segmentation:
    """A red square on grey; no blue."""
    return run(SQUARE, LABELS)


# --- Names and ids ------------------------------------------------------------------------------------------------


def test_a_label_is_asked_for_by_name_or_by_its_id_in_index(found: Segmentation) -> None:
    for i, label in enumerate(found.labels, start=1):
        assert found.id_of(label) == found.id_of(i) == found.id_of(np.uint8(i)) == i  # type: ignore[arg-type]
        assert np.array_equal(found.mask(label), found.index == i)
        assert np.array_equal(found.mask(i), found.mask(label))
        assert np.array_equal(found.score_map(i), found.score_map(label))
        assert found.mask(label).mean() == pytest.approx(found.shares[i - 1])
    assert found.mask(2)[32, 32]
    single = run(SQUARE, ["red"])
    assert np.array_equal(single.mask(0), single.index == 0)
    assert single.mask(0).any()


def test_what_is_done_to_an_array_of_a_result_does_not_change_it(found: Segmentation) -> None:
    before = found.index.copy(), found.mask(2), found.score_map(2), found.probabilities
    with pytest.raises(ValueError, match="read-only"):
        found.index[0, 0] = 2
    for array in (found.mask(2), found.score_map(2), found.probability_map(2), found.probabilities):
        array[:] = 0
    after = found.index, found.mask(2), found.score_map(2), found.probabilities
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("label", ["teal", "", 4, -1, None, 1.0, ["red"]], ids=str)
def test_a_label_that_there_is_not_is_refused(label: Any, found: Segmentation) -> None:
    for ask in (found.id_of, found.mask, found.score_map, found.probability_map, found.heatmap):
        with pytest.raises(ArgumentError) as error:
            ask(label)
        assert error.value.argument == "label"


def test_the_background_has_a_mask_but_no_map(found: Segmentation) -> None:
    assert not found.mask(0).any()
    for ask in (found.score_map, found.probability_map, found.heatmap):
        with pytest.raises(ArgumentError):
            ask(0)


# --- Probabilities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"refine": 3},
        {"refine": 3, "refine_on": "cosines"},
        {"size": 96, "window": 48, "accumulate": "pixel"},
        {"logit_scale": 5.0},
        {"min_area": 0.3},
    ],
    ids=str,
)
def test_probabilities_are_what_the_labels_were_decided_by(settings: dict[str, Any]) -> None:
    found = run(noise(60, 80), LABELS, **settings)
    probabilities = found.probabilities
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3, 60, 80)
    assert 0 <= probabilities.min() <= probabilities.max() <= 1 + 1e-5
    assert np.array_equal(probabilities.argmax(0) + 1, found.index)
    if "min_area" not in settings:
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    for i in range(3):
        assert np.array_equal(found.probability_map(i + 1), probabilities[i])
        mask = found.mask(i + 1)
        assert found.scores[i] == pytest.approx(probabilities[i][mask].mean() if mask.any() else 0, abs=1e-5)


def test_probabilities_beside_a_background() -> None:
    found = run(SQUARE, ["red;teal=thing", "blue"], background="prompt:grey")
    assert found.probabilities.sum(0).max() < 1 + 1e-5
    assert found.probabilities[:, 2, 2].sum() < 0.1
    assert found.probability_map("thing")[32, 32] > 0.9


def test_a_result_holds_no_model() -> None:
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(SQUARE)
    found = segmenter.predict(LABELS)
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.probabilities, found.probabilities)
    assert b"ColourModel" not in pickle.dumps(found)


# --- Drawn --------------------------------------------------------------------------------------------------------


def test_overlays_show_the_labels(found: Segmentation) -> None:
    plain = np.asarray(found.overlay(legend=False))
    assert plain.shape == (800, 800, 3)
    legend = found.overlay()
    assert legend.height > 800 < legend.width
    assert (plain != np.asarray(found.overlay(legend=False, opacity=0.1))).any()
    assert found.overlay(long_side=100, legend=False).size == (100, 100)
    white = np.full((64, 64, 3), 255, np.uint8)
    assert np.asarray(found.overlay(white, legend=False)).mean() > plain.mean()


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.uint8), "missing.png", 3, np.full((64, 64, 3), 2.0)], ids=str)
def test_only_an_image_of_the_size_can_be_drawn_on(image: Any, found: Segmentation) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (a missing file is a UserError)
        found.overlay(image)


def test_the_heat_maps_of_a_result_have_one_scale(found: Segmentation) -> None:
    low, high = found.score_limits
    assert (low, high) == (
        min(found.score_map(label).min() for label in LABELS),
        max(found.score_map(label).max() for label in LABELS),
    )
    assert np.array_equal(found.heatmap("red"), found.heatmap(2, limits=(low, high)))
    assert (np.asarray(found.heatmap("red")) != np.asarray(found.heatmap("red", limits=(0, 0.5)))).any()


def test_a_relative_path_is_drawn_on_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_image(tmp_path / "square.png", SQUARE)
    (tmp_path / "other").mkdir()
    save_image(tmp_path / "other/square.png", noise(64, 64))
    monkeypatch.chdir(tmp_path)
    segmenter = Segmenter(ColourModel())
    segmenter.set_image("square.png")
    found = segmenter.predict(LABELS)
    before = found.overlay()
    monkeypatch.chdir("other")
    assert np.array_equal(found.overlay(), before)
    assert found.source == "square.png"
    record = found.save(tmp_path / "out")
    assert is_same_source(record, tmp_path / "out", tmp_path / "square.png")


def test_a_notebook_shows_the_overlay(found: Segmentation) -> None:
    shown = found._repr_png_()
    assert shown is not None
    assert Image.open(io.BytesIO(shown)).format == "PNG"
    assert len(repr(found)) < 500


@pytest.mark.parametrize("form", ["path", "pillow", "array", "float array", "tensor", "float tensor"])
def test_every_form_of_an_image_is_drawn_alike(form: str, tmp_path: Path) -> None:
    image = noise(40, 56)
    save_image(tmp_path / "image.png", image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    forms = {
        "path": tmp_path / "image.png",
        "pillow": Image.fromarray(image),
        "array": image,
        "float array": image / 255,
        "tensor": tensor,
        "float tensor": tensor / 255,
    }
    segmenter = Segmenter(ColourModel())
    segmenter.set_image(forms[form])
    found = segmenter.predict(LABELS)
    assert np.array_equal(found.overlay(), found.overlay(image))
