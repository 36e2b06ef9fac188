"""The contact sheet of a search: the best images, with the region that the text is found in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pacl.errors import UserError
from pacl.images import open_image
from pacl.printing import decimals, printable
from pacl.results.contact_sheet import Row, Tile, contact_sheet
from pacl.results.overlay import fit, paint_labels

if TYPE_CHECKING:
    from pacl.classification.scorer import Scorer
    from pacl.index.image_index import Hit, Index
    from pacl.prompts import Label

COLUMNS = 5
TILE = 256  # pixels: long side
OPACITY = 0.25  # of the region inside its outline
REFINE = 10  # rounds: the outline follows the image


def search_sheet(index: Index, hits: Sequence[Hit], query: Label | np.ndarray) -> np.ndarray:
    """Draw the images that were found, with rank, score and name.

    Args:
        index: that was searched.
        hits: what was found.
        query: the text, whose region in each image is outlined, or an image, RGB uint8 [H, W, 3], which is drawn first.

    Returns:
        RGB uint8 [H, W, 3].
    """
    names = (f"{hit.rank}.  {decimals(hit.score, 3)}  {printable(hit.path.relative_to(index.folder))}" for hit in hits)
    if isinstance(query, np.ndarray):
        tiles = [Tile(fit(image, TILE), name) for image, name in zip(_opened(hits), names, strict=True)]
        return contact_sheet([Row([Tile(fit(query, TILE))], "Similar to this image:"), *_rows(tiles)])
    images = _outlined(_opened(hits), query, index.scorer)
    tiles = [Tile(image, name) for image, name in zip(images, names, strict=True)]
    title = f"“{'”, “'.join(query.prompts)}”"
    return contact_sheet(_rows(tiles, title), min_width=2 * TILE)


def _rows(tiles: Sequence[Tile], title: str = "") -> list[Row]:
    return [Row(tiles[start : start + COLUMNS], title if start == 0 else "") for start in range(0, len(tiles), COLUMNS)]


def _opened(hits: Iterable[Hit]) -> Iterable[np.ndarray]:
    """The images; a grey square for one that no longer exists."""
    for hit in hits:
        try:
            yield open_image(hit.path)
        except UserError:
            yield np.full((TILE, TILE, 3), 200, dtype=np.uint8)


def _outlined(images: Iterable[np.ndarray], label: Label, scorer: Scorer) -> Iterable[np.ndarray]:
    """The images at the size of tiles, each with its region of the label; unchanged where the label is not found."""
    from pacl.segmentation.query import encode_query, make_query
    from pacl.segmentation.segmenter import Segmenter
    from pacl.segmentation.settings import SegmenterSettings

    segmenter = Segmenter(scorer.model, SegmenterSettings(precision=scorer.precision, refine=REFINE))
    query = encode_query(scorer.model, make_query([label], segmenter.background, scorer.model.config), scorer.templates)
    for image in images:
        [found] = segmenter.predict_batch([image], query)
        is_found = found.index.any()
        yield paint_labels(image, found.index, opacity=OPACITY, long_side=TILE) if is_found else fit(image, TILE)
