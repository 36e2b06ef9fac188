"""The sheet shows images as they are cut, with their captions."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image

from pacl.cli.source_sheet import COLUMNS, TILE, SourceImages, source_sheet
from pacl.data.crop import SquareCrop
from pacl.data.inspection import Item
from pacl.results.contact_sheet import GAP
from tests.cli.data_check.sources import Check


def test_the_sheet_shows_images_as_they_are_cut(check: Check) -> None:
    check("fine.csv", "--sheet", "deep/sheet.png")
    sheet = np.asarray(Image.open("deep/sheet.png"))
    assert sheet.shape[1] == GAP + COLUMNS * (TILE + GAP)
    assert TILE < sheet.shape[0] < 2 * TILE
    a = Item("images/a.jpg", [("a red cat", ())])
    tile = SquareCrop("pad").square(a.read, TILE, Random(0))
    drawn = source_sheet([SourceImages("a", [a], SquareCrop("pad"))])
    top = next(y for y in range(len(drawn)) if np.array_equal(drawn[y, GAP : GAP + TILE], tile[0]))
    np.testing.assert_array_equal(drawn[top : top + TILE, GAP : GAP + TILE], tile)


def test_rows_and_strips_add_up() -> None:
    image = Item("images/a.jpg", [("a", ())])
    heights = [len(source_sheet([SourceImages("t", [image] * n, SquareCrop())])) for n in (0, 1, 6, 7, 13)]
    assert heights[1] == heights[2] > heights[0] + TILE
    assert heights[4] - heights[3] == heights[3] - heights[2] > TILE
    both = source_sheet([SourceImages("t", [image], SquareCrop()), SourceImages("u", [image], SquareCrop())])
    assert len(both) == 2 * heights[1] - GAP


@pytest.mark.parametrize(
    "caption",
    ["", "猫が座っている" * 20, "قطة على السجادة", "a\ud800b", "🙂 " * 300, "x" * 3000, "two\nlines\tand\x07 a bell"],
)
def test_any_caption_can_be_drawn(caption: str) -> None:
    image = Item("images/a.jpg", [(caption, ())] if caption else [])
    sheet = source_sheet([SourceImages("t", [image], SquareCrop())])
    below = sheet[-60:, GAP : GAP + TILE]
    assert (below < 200).any()  # something is written there
    assert len(sheet) < 2 * TILE
