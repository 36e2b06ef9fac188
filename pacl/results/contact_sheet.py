"""Contact sheets: rows of images with captions, titles and legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest

import numpy as np
from PIL import Image, ImageOps

from pacl.results.fonts import BACKGROUND, text_block
from pacl.results.legend import Legend

GAP = 16  # pixels between tiles and around the sheet
MAX_CAPTION_LINES = 5


@dataclass(frozen=True)
class Tile:
    """An image, RGB uint8 [H, W, 3], and the caption below it, which may be empty."""

    image: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Tiles side by side, a title above them and a legend below them; each of the three may be left out."""

    tiles: Sequence[Tile] = ()
    title: str = ""
    legend: Legend | None = None


def contact_sheet(rows: Sequence[Row], min_width: int = 0) -> np.ndarray:
    """Draw rows of captioned images; the tiles of a column are aligned at the left.

    Args:
        rows: from top to bottom.
        min_width: pixels; the sheet is wider if its tiles need it.

    Returns:
        RGB uint8 [H, W, 3].
    """
    columns = [max(tile.image.shape[1] for tile in column if tile) for column in zip_longest(*(r.tiles for r in rows))]
    left = list(accumulate((column + GAP for column in columns), initial=0))
    width = max(left[-1] - GAP, min_width - 2 * GAP)
    size = max(15, width // 95)  # of the letters
    parts = []
    for row in rows:
        part = [text_block(row.title, width, 1.3 * size)] if row.title else []
        if row.tiles:
            tiles = [_tile(tile, column, size) for tile, column in zip(row.tiles, columns, strict=False)]
            strip = Image.new("RGB", (width, max(tile.height for tile in tiles)), BACKGROUND)
            for x, tile in zip(left, tiles, strict=False):
                strip.paste(tile, (x, 0))
            part.append(strip)
        if row.legend and row.legend.entries:
            part.append(row.legend.draw(width, size))
        parts.append(_stack(part, GAP // 2))
    return np.asarray(ImageOps.expand(_stack(parts, GAP), GAP, BACKGROUND))


def _tile(tile: Tile, width: int, size: int) -> Image.Image:
    image = Image.fromarray(tile.image)
    caption = [text_block(tile.caption, width, size, MAX_CAPTION_LINES)] if tile.caption else []
    return _stack([image, *caption], GAP // 2)


def _stack(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Images below each other."""
    top = list(accumulate((part.height + gap for part in parts), initial=0))
    stacked = Image.new("RGB", (max(part.width for part in parts), top[-1] - gap), BACKGROUND)
    for y, part in zip(top, parts, strict=False):
        stacked.paste(part, (0, y))
    return stacked
