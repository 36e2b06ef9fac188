"""The drawn matrix: its layout, its colours and the frames of the best texts."""

from __future__ import annotations

import numpy as np
import pytest

from pacl.results.contact_sheet import GAP
from pacl.results.matrix import BAND, CELL, FLAT, FRAME, SPACE, TEXT_WIDTH, WIDEST, similarity_matrix
from pacl.results.palette import palette

SIZES = ((CELL, CELL), (CELL, 40), (50, CELL))
ABOVE = np.array([[0.5, 0.1, 0.0], [0.2, 0.3, 0.1], [-0.4, 0.0, -0.5]])  # three images with three texts
BESIDE = ABOVE[:, :2]  # more images than texts


@pytest.fixture
def thumbnails() -> list[np.ndarray]:
    return [np.full((*size, 3), 40 * (i + 1), np.uint8) for i, size in enumerate(SIZES)]


def cells(drawn: np.ndarray, columns: int, rows: int, height: int) -> list[list[np.ndarray]]:
    """The pixels of each cell with its frame: rows of cells."""
    bottom, right = drawn.shape[0] - GAP - FRAME, drawn.shape[1] - GAP - FRAME
    top = bottom - rows * (height + SPACE) + SPACE
    left = right - columns * (CELL + SPACE) + SPACE
    ys = [top + row * (height + SPACE) - FRAME for row in range(rows)]
    xs = [left + column * (CELL + SPACE) - FRAME for column in range(columns)]
    return [[drawn[y : y + height + 2 * FRAME, x : x + CELL + 2 * FRAME] for x in xs] for y in ys]


def framed(found: list[list[np.ndarray]]) -> list[list[bool]]:
    """Whether each cell has a frame on all four sides."""
    blue = palette(1)[1]

    def has_frame(cell: np.ndarray) -> bool:
        sides = [(side == blue).all() for side in (cell[0], cell[-1], cell[:, 0], cell[:, -1])]
        assert all(sides) == any(sides)
        return all(sides)

    return [[has_frame(cell) for cell in row] for row in found]


@pytest.mark.parametrize("maps", [False, True])
def test_the_best_text_of_each_image_is_framed(thumbnails: list[np.ndarray], maps: bool) -> None:
    height = CELL + SPACE // 2 + BAND if maps else FLAT
    for scores, texts in ((ABOVE, "abc"), (BESIDE, "ab")):
        heat = [np.zeros((len(texts), *size), np.float32) for size in SIZES] if maps else None
        drawn = similarity_matrix(thumbnails, list(texts), scores, heat)
        assert drawn.dtype == np.uint8
        best = scores == scores.max(axis=1, keepdims=True)  # [I, T]
        found = framed(cells(drawn, len(texts), 3, height))
        assert found == (best.T if len(texts) == 3 else best).tolist()


def test_more_images_than_texts_are_beside_the_cells(thumbnails: list[np.ndarray]) -> None:
    many = thumbnails * 15
    tall = similarity_matrix(many, ["a", "b"], np.tile(BESIDE, (15, 1)), names=["photo.jpg"] * 45)
    assert tall.shape[1] < TEXT_WIDTH + 5 * CELL
    assert tall.shape[0] > 45 * 40
    wide = similarity_matrix(many, list("abcde") * 9, np.zeros((45, 45)))
    assert wide.shape[1] < TEXT_WIDTH + 2 * WIDEST


def test_names_are_drawn_beside_and_below_the_images(thumbnails: list[np.ndarray]) -> None:
    for scores, texts in ((ABOVE, "abc"), (BESIDE, "ab")):
        plain = similarity_matrix(thumbnails, list(texts), scores)
        named = similarity_matrix(thumbnails, list(texts), scores, names=["one.png", "two.png", "x" * 300])
        other = similarity_matrix(thumbnails, list(texts), scores, names=["one.png", "two.png", "y" * 300])
        assert named.shape == other.shape
        assert (named != other).any()
        assert named.shape[:2] > plain.shape[:2] if len(texts) == 3 else named.shape[1] > plain.shape[1]


def test_maps_are_drawn_on_the_images_and_make_it_taller(thumbnails: list[np.ndarray]) -> None:
    plain = similarity_matrix(thumbnails, ["a", "b"], BESIDE)
    flat = [np.zeros((2, *size), np.float32) for size in SIZES]
    peak = [each.copy() for each in flat]
    peak[1][0, 60:70, 10:30] = 1
    with_maps = similarity_matrix(thumbnails, ["a", "b"], BESIDE, flat)
    other = similarity_matrix(thumbnails, ["a", "b"], BESIDE, peak)
    assert with_maps.shape[0] > plain.shape[0] + BAND
    height = CELL + SPACE // 2 + BAND
    before, after = cells(with_maps, 2, 3, height), cells(other, 2, 3, height)
    changed = [[bool((a != b).any()) for a, b in zip(*rows, strict=True)] for rows in zip(before, after, strict=True)]
    assert changed == [[False, False], [True, False], [False, False]]


def test_colours_follow_the_scores(thumbnails: list[np.ndarray]) -> None:
    first_row = cells(similarity_matrix(thumbnails, ["a", "b", "c"], ABOVE), 3, 3, FLAT)[0]
    bright = [int(cell[2 * FRAME, 2 * FRAME].sum()) for cell in first_row]
    assert bright[0] > bright[1] > bright[2]  # 0.5, 0.2, -0.4


def test_equal_scores_and_long_texts_are_drawn(thumbnails: list[np.ndarray]) -> None:
    texts = ["word " * 60, "\u732b", "a" * 500]
    drawn = similarity_matrix(thumbnails, texts, np.zeros((3, 3)), caption="a caption " * 50)
    assert drawn.ndim == 3
    captioned = similarity_matrix(thumbnails, texts, np.zeros((3, 3)), caption="x")
    assert captioned.shape[0] > similarity_matrix(thumbnails, texts, np.zeros((3, 3))).shape[0]
