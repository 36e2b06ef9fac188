"""Refinement, as part of the segmenter."""

from __future__ import annotations

from tests.colours import ColourModel
from tests.segmentation.red_square import SQUARE, iou_of_red, run


def test_refinement_follows_the_pictures_edges() -> None:
    coarse, refined = (iou_of_red(["red", "grey"], ColourModel(), refine=n, logit_scale=20.0) for n in (0, 10))
    assert coarse < 0.9 < 0.97 < refined


def test_refinement_goes_with_synonyms_and_background() -> None:
    result = run(SQUARE, ["red;blue=thing"], refine=3, background="prompt:grey")
    assert result.index[32, 32] == 1
    assert result.index[2, 2] == 0
