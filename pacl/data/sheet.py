"""Contact sheet of training data: images of each source as training crops them, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from pacl.data.photos import Cut
from pacl.data.survey import Picture
from pacl.results.contact_sheet import GAP, Row, Tile, contact_sheet

TILE = 224  # side of an image, in pixels
COLUMNS = 6


@dataclass(frozen=True)
class SourceImages:
    """The images of one source.

    Attributes:
        title: shown above them.
        pictures: readable ones.
        cut: how they are cropped.
    """

    title: str
    pictures: Sequence[Picture]
    cut: Cut


def source_sheet(sources: Sequence[SourceImages], seed: int = 0) -> np.ndarray:
    """Draw the images of each source with a random caption each.

    Args:
        sources: from top to bottom.
        seed: of the crops and of the choice of captions.

    Returns:
        RGB uint8 [H, W, 3].
    """
    rows = []
    for source in sources:
        tiles = [_tile(picture, source.cut, Random(f"{seed}/{i}")) for i, picture in enumerate(source.pictures)]
        rows += [Row(tiles[:COLUMNS], source.title)]
        rows += [Row(tiles[start : start + COLUMNS]) for start in range(COLUMNS, len(tiles), COLUMNS)]
    return contact_sheet(rows, min_width=GAP + COLUMNS * (TILE + GAP))


def _tile(picture: Picture, cut: Cut, rng: Random) -> Tile:
    image = cut.square(picture.read, TILE, rng)
    captions = [caption for caption, _ in picture.descriptions]
    caption = rng.choice(captions) if captions else ""
    return Tile(image, caption.strip() or "(no caption)")
