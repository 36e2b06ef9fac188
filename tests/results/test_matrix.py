"""The drawn matrix: its layout, its colours and the frames of the best texts."""

from __future__ import annotations

import numpy as np
import pytest

from pacl.results.contact_sheet import GAP
from pacl.results.matrix import BAND, CELL, SPACE, TEXT_WIDTH, similarity_matrix
from pacl.results.palette import palette

SIZES = ((CELL, CELL), (CELL, 40), (50, CELL))


@pytest.fixture
def thumbnails() -> list[np.ndarray]:
    return [np.full((*size, 3), 40 * (i + 1), np.uint8) for i, size in enumerate(SIZES)]


SCORES = np.array([[0.5, 0.1], [0.2, 0.3], [-0.4, 0.0]])


def framed(drawn: np.ndarray) -> list[bool]:
    """Whether the cells of two rows of three have a frame."""
    blue = (drawn == palette(1)[1]).all(-1)
    middle, left = (drawn.shape[0] + CELL) // 2, drawn.shape[1] - GAP - 3 * (CELL + SPACE) - SPACE // 2
    columns = [slice(left + i * (CELL + SPACE), left + (i + 1) * (CELL + SPACE)) for i in range(3)]
    return [bool(part[:, own].any()) for part in (blue[:middle], blue[middle:]) for own in columns]


@pytest.mark.parametrize("maps", [False, True])
def test_the_best_text_of_each_image_is_framed(thumbnails: list[np.ndarray], maps: bool) -> None:
    heat = [np.zeros((2, *size), np.float32) for size in SIZES] if maps else None
    drawn = similarity_matrix(thumbnails, ["a", "b"], SCORES, heat)
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] > TEXT_WIDTH + 3 * CELL
    assert framed(drawn) == [True, False, False, False, True, True]


def test_maps_are_drawn_on_the_images_and_make_it_taller(thumbnails: list[np.ndarray]) -> None:
    plain = similarity_matrix(thumbnails, ["a", "b"], SCORES)
    flat = [np.zeros((2, *size), np.float32) for size in SIZES]
    peak = [each.copy() for each in flat]
    peak[1][0, 60:70, 10:30] = 1
    with_maps = similarity_matrix(thumbnails, ["a", "b"], SCORES, flat)
    other = similarity_matrix(thumbnails, ["a", "b"], SCORES, peak)
    assert with_maps.shape[0] > plain.shape[0] + BAND
    changed = (with_maps != other).any(-1)
    first_row = slice(CELL, CELL + CELL + 60)
    assert changed.any()
    assert not changed[first_row.stop :].any()  # the maps of the second text are as before


def test_colours_follow_the_scores(thumbnails: list[np.ndarray]) -> None:
    drawn = similarity_matrix(thumbnails, ["a", "b"], SCORES).astype(int)
    bright = [drawn[CELL + 40, drawn.shape[1] - GAP - (3 - i) * (CELL + SPACE) + 10].sum() for i in range(3)]
    assert bright[0] > bright[1] > bright[2]  # 0.5, 0.2, -0.4


def test_equal_scores_and_long_texts_are_drawn(thumbnails: list[np.ndarray]) -> None:
    texts = ["word " * 60, "\u732b", "a"]
    drawn = similarity_matrix(thumbnails, texts, np.zeros((3, 3)), caption="a caption " * 50)
    assert drawn.ndim == 3
    captioned = similarity_matrix(thumbnails, texts, np.zeros((3, 3)), caption="x")
    assert captioned.shape[0] > similarity_matrix(thumbnails, texts, np.zeros((3, 3))).shape[0]
