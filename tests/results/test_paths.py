"""Endings of results, by which they are told from photos."""

from __future__ import annotations

from pathlib import Path

from pacl.results.formats import FORMATS
from pacl.results.paths import FRAME_MASK, FRAME_MASK_NAME, RESULT_ENDING, VIDEO_ENDINGS, masks_folder, video_files
from tests.results.drawn import write_one


def test_every_drawing_of_an_image_or_a_video_has_an_ending_of_results(tmp_path: Path) -> None:
    write_one(tmp_path, tuple(FORMATS), "cat", "a wall")
    drawn = [path.name for path in tmp_path.glob("*.png")]
    assert len(drawn) == 4  # overlay, mask, and a heat map of each label
    assert all(RESULT_ENDING.search(name) for name in [*drawn, *(f"clip{ending}" for ending in VIDEO_ENDINGS)])
    assert not any(RESULT_ENDING.search(name) for name in ("mask.png", "a.mask.jpg", "heat-1-cat.png.txt"))


def test_masks_of_frames_are_known_by_their_names(tmp_path: Path) -> None:
    assert all(FRAME_MASK.fullmatch(FRAME_MASK_NAME.format(number)) for number in (0, 999_999, 1_000_000))
    masks_folder(tmp_path / "clip").mkdir()
    assert video_files(tmp_path / "clip") == []
