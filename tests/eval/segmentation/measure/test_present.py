"""Only the classes that a mask shows compete, where the protocol says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.segmentation import measure as segmenting
from eval.segmentation.measure import Bench, Extras, Row
from pacl.data.masks import IGNORED
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import COLOURS, ColourModel
from tests.eval.segmentation.measure.benches import PLAIN, a_protocol, folder_of


def test_only_classes_that_the_mask_shows_compete(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    image = folder[0].image()
    target = np.full((64, 64), 2, np.int32)  # blue, though the image is red and green
    for asked, left, right in ((False, 0, 1), (True, 2, 2)):
        row = Row("naclip", ColourModel(), replace(PLAIN, present=asked), folder.labels, False)
        ((*_, labels),) = next(iter(Bench(folder, [row], Extras()).predict([image], [target])))
        assert set(np.unique(labels[:, :28])) == {left}
        assert set(np.unique(labels[:, 36:])) == {right}


def test_with_only_what_the_mask_shows_the_level_of_peak_is_that_of_the_prompts_asked_for(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, names="none\nred\nblue\n")
    model = ColourModel()
    model.centre, model.config.presence = model.encode_prompts(["grey"])[0], 0.05  # type: ignore[assignment]
    image = np.empty((64, 64, 3), np.uint8)
    image[:], image[:, :16] = COLOURS["teal"], COLOURS["red"]
    target = np.zeros((64, 64), np.int32)
    target[:, 16:] = 2
    peak = a_protocol(size=64, background="peak:0.6", background_text=False, present=True)
    row: Any = Row("naclip", model, peak, folder.labels, True)  # type: ignore[arg-type]
    ((*_, labels),) = next(iter(Bench(folder, [row], Extras()).predict([image], [target])))
    segmenter = Segmenter(model, SegmenterSettings(background="peak:0.6", accumulate=PLAIN.settings.accumulate))  # type: ignore
    segmenter.set_image(image)
    expected = segmenter.predict(["blue"]).mask(1)
    assert expected.any()
    np.testing.assert_array_equal(labels == 2, expected)


def test_a_class_is_shown_from_one_percent_of_the_labelled_pixels_on() -> None:
    target = np.full((200, 100), 2, np.int32)
    target[100:] = IGNORED
    target[0, :100], target[1, :99] = 4, 3
    assert segmenting.present(target) == {2, 4}


def test_patches_too_are_labelled_among_what_the_mask_shows(tmp_path: Path) -> None:
    image = np.empty((64, 64, 3), np.uint8)
    image[:] = COLOURS["red"]
    target = np.full((64, 64), 2, np.int32)  # blue, though all is red
    folder = folder_of(tmp_path)
    for asked in (False, True):
        row: Any = Row("naclip", ColourModel(), replace(PLAIN, present=asked), folder.labels, False)  # type: ignore[arg-type]
        counts = Bench(folder, [row], Extras(patches=True)).count([0], [image], [target])
        assert counts.patches is not None
        assert counts.patches.tolist() == [[[64 if asked else 0, 64]]]


def test_a_mask_without_a_class_that_is_asked_for(tmp_path: Path) -> None:
    """All of it is class 0, which is what scores too little: no prompt competes."""
    folder = folder_of(tmp_path, names="none\nred\nblue\n")
    protocol = a_protocol(size=64, background="threshold:0.75", background_text=False, present=True)
    row: Any = Row("naclip", ColourModel(), protocol, folder.labels, True)  # type: ignore[arg-type]
    image = folder[0].image()
    counts = Bench(folder, [row], Extras(patches=True)).count([0], [image], [np.zeros((64, 64), np.int32)])
    assert counts.patches is not None
    assert counts.areas[0, 0, 0].tolist() == [64 * 64, 0, 0]
    assert counts.patches.tolist() == [[[0, 0]]]
