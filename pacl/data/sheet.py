"""The contact sheet: some pictures of each source as training sees them, each above one of its captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from pacl.data.photos import Cut
from pacl.data.survey import Picture
from pacl.results.legend import FAINT, FINE, INK, PAPER, ellipsis, typeface, wrap

TILE = 224  # side of a picture, in pixels
COLUMNS = 6
GAP = 16
LETTERS = 15  # size of the captions' letters
LINES = 5  # of a caption at most
MISSING = "no caption"


@dataclass(frozen=True)
class Strip:
    """The part of the sheet that shows one source.

    Attributes:
        title: stands above its pictures.
        pictures: readable ones.
        cut: how they become square.
    """

    title: str
    pictures: Sequence[Picture]
    cut: Cut


def contact_sheet(strips: Sequence[Strip], seed: int = 0) -> np.ndarray:
    """Draw the pictures in rows, source below source.

    Args:
        strips: the sources.
        seed: of the cuts and of the choice of captions.

    Returns:
        RGB uint8 [H, W, 3].
    """
    width = GAP + COLUMNS * (TILE + GAP)
    parts = [part for strip in strips for part in _rows(strip, width, seed)]
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), PAPER)
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return np.asarray(sheet)


def _rows(strip: Strip, width: int, seed: int) -> list[Image.Image]:
    """The title and the rows of one source."""
    title = _text([strip.title], width - 2 * GAP, 1.3 * LETTERS, most=1)
    head = Image.new("RGB", (width, title.height + 2 * GAP), PAPER)
    head.paste(title, (GAP, GAP))
    tiles = [_tile(picture, strip.cut, Random(f"{seed}/{i}")) for i, picture in enumerate(strip.pictures)]
    rows = [head]
    for start in range(0, len(tiles), COLUMNS):
        own = tiles[start : start + COLUMNS]
        row = Image.new("RGB", (width, max(tile.height for tile in own) + GAP), PAPER)
        for i, tile in enumerate(own):
            row.paste(tile, (GAP + i * (TILE + GAP), 0))
        rows.append(row)
    return rows


def _tile(picture: Picture, cut: Cut, rng: Random) -> Image.Image:
    """A picture, cut, and one of its captions."""
    square = Image.fromarray(cut.square(picture.read, TILE, rng))
    captions = [caption for caption, _ in picture.descriptions]
    text = _text([rng.choice(captions)] if captions else [], TILE, LETTERS, LINES)
    tile = Image.new("RGB", (TILE, TILE + GAP // 2 + text.height), PAPER)
    tile.paste(square)
    tile.paste(text, (0, TILE + GAP // 2))
    return tile


def _text(texts: Sequence[str], width: int, size: float, most: int) -> Image.Image:
    """A text on as many lines as it needs, or `most`; none is said to be missing."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in "".join(texts))[:1000].split())
    font = typeface([text])(size * FINE)
    room, step = width * FINE, round(1.35 * size) * FINE
    lines = wrap(text or MISSING, room, font)
    if len(lines) > most:
        lines = [*lines[: most - 1], ellipsis(" ".join(lines[most - 1 :]), room, font)]
    panel = Image.new("RGB", (room, len(lines) * step), PAPER)
    draw = ImageDraw.Draw(panel)
    for n, line in enumerate(lines):
        draw.text((0, (n + 0.5) * step), line, INK if text else FAINT, font, anchor="lm")
    return panel.reduce(FINE)
