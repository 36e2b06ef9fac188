from __future__ import annotations

import numpy as np

from pacl.results.contact_sheet import GAP, Row, Tile, contact_sheet
from pacl.results.fonts import BACKGROUND
from pacl.results.legend import Entry, Legend


def image(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_tiles_lie_in_columns() -> None:
    rows = [
        Row([Tile(image(30, 40, 1)), Tile(image(20, 50, 2))]),
        Row([Tile(image(10, 60, 3)), Tile(image(10, 10, 4))]),
    ]
    sheet = contact_sheet(rows)
    assert sheet.shape == (GAP + 30 + GAP + 10 + GAP, GAP + 60 + GAP + 50 + GAP, 3)
    for value, (top, left, height, width) in enumerate(
        [(0, 0, 30, 40), (0, 76, 20, 50), (46, 0, 10, 60), (46, 76, 10, 10)], start=1
    ):
        y, x = np.nonzero((sheet == value).all(-1))
        assert (y.min(), x.min(), y.max(), x.max()) == (
            GAP + top,
            GAP + left,
            GAP + top + height - 1,
            GAP + left + width - 1,
        )


def test_titles_captions_and_legends_need_room_and_are_drawn() -> None:
    tiles = [Tile(image(30, 200, 128))]
    plain = contact_sheet([Row(tiles)])
    legend = Legend([Entry("dog", 1, (255, 0, 0))])
    for row in (Row(tiles, "title"), Row([Tile(tiles[0].image, "caption")]), Row(tiles, legend=legend)):
        sheet = contact_sheet([row])
        assert len(sheet) > len(plain) + 15
        assert (sheet.min(-1) < 100).any()
        assert (sheet[:GAP] == BACKGROUND).all()
        assert (sheet[-GAP:] == BACKGROUND).all()


def test_a_title_alone_and_a_minimal_width() -> None:
    assert contact_sheet([Row(title="nothing to show")], min_width=500).shape[1] == 500
    assert contact_sheet([Row([Tile(image(9, 9, 0))])], min_width=500).shape[1] == 500


def test_long_captions_are_limited() -> None:
    heights = [len(contact_sheet([Row([Tile(image(9, 100, 0), "word " * n)])])) for n in (100, 1000)]
    assert heights[0] == heights[1] < 200
