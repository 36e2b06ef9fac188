"""Contact sheet of training data: images of each source as training crops them, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from pacl.data.crop import SquareCrop
from pacl.data.inspection import Item
from pacl.results.contact_sheet import GAP, Row, Tile, contact_sheet

TILE = 224  # side of an image, in pixels
COLUMNS = 6


@dataclass(frozen=True)
class SourceImages:
    """The images of one source.

    Attributes:
        title: shown above them.
        images: readable ones.
        crop: how they are cropped.
    """

    title: str
    images: Sequence[Item]
    crop: SquareCrop


def source_sheet(sources: Sequence[SourceImages], seed: int = 0) -> np.ndarray:
    """Lay out the images of each source, each with one of its captions.

    Args:
        sources: from top to bottom.
        seed: decides the crops and which captions are shown.

    Returns:
        RGB uint8 [H, W, 3].
    """
    rows = []
    for source in sources:
        tiles = [_tile(item, source.crop, Random(f"{seed}/{i}")) for i, item in enumerate(source.images)]
        rows += [Row(tiles[:COLUMNS], source.title)]
        rows += [Row(tiles[start : start + COLUMNS]) for start in range(COLUMNS, len(tiles), COLUMNS)]
    return contact_sheet(rows, min_width=GAP + COLUMNS * (TILE + GAP))


def _tile(item: Item, crop: SquareCrop, rng: Random) -> Tile:
    image = crop.square(item.read, TILE, rng)
    captions = [caption for caption, _ in item.descriptions]
    caption = rng.choice(captions) if captions else ""
    return Tile(image, caption.strip() or "(no caption)")
