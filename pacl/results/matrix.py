"""A matrix of images and texts as one image: the images above, the texts beside, and in each cell how well they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from pacl.results.contact_sheet import GAP
from pacl.results.fonts import BACKGROUND, OVERSAMPLING, TEXT, text_block, typeface
from pacl.results.overlay import colour_map, paint_scores, score_limits
from pacl.results.palette import palette

CELL = 128  # pixels: width of a cell, and the long side of a thumbnail
BAND = 36  # pixels: height of the part of a cell that holds the value, where maps are above it
TEXT_WIDTH = 230  # pixels
LETTERS = 17  # pixels
FRAME = 4  # pixels, around the best text of each image
SPACE = 10  # pixels between cells
MAX_TEXT_LINES = 5


def similarity_matrix(
    thumbnails: Sequence[np.ndarray],
    texts: Sequence[str],
    scores: np.ndarray,
    maps: Sequence[np.ndarray] | None = None,
    caption: str = "",
) -> np.ndarray:
    """Draw the scores of I images with T texts; the best text of each image has a frame.

    Args:
        thumbnails: I images, each RGB uint8 [h, w, 3] of at most `CELL` pixels a side.
        texts: T of them.
        scores: float [I, T]. Colours go from the lowest to the highest.
        maps: for each image, float [T, h, w] of its thumbnail's size: where the texts are. The colours of a text's maps
            have one scale over all images.
        caption: a line below the matrix.

    Returns:
        RGB uint8 [H, W, 3].
    """
    low, high = float(scores.min()), float(scores.max())
    colours = colour_map(((scores - low) / max(high - low, 1e-12)).astype(np.float32))  # [I, T, 3]
    map_height = CELL + SPACE // 2 if maps is not None else 0
    row_height = map_height + (BAND if maps is not None else round(0.62 * CELL))
    left = TEXT_WIDTH + GAP
    width, height = left + len(thumbnails) * (CELL + SPACE), CELL + SPACE + len(texts) * (row_height + SPACE)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    best = scores.argmax(axis=1)
    for i, thumbnail in enumerate(thumbnails):
        x = left + i * (CELL + SPACE)
        _paste(sheet, thumbnail, (x, 0), at_the_bottom=True)
        for t in range(len(texts)):
            y = CELL + SPACE + t * (row_height + SPACE)
            if best[i] == t:
                box = (x - FRAME, y - FRAME, x + CELL + FRAME - 1, y + row_height + FRAME - 1)
                draw.rectangle(box, tuple(map(int, palette(1)[1])))
                draw.rectangle((x, y, x + CELL - 1, y + row_height - 1), BACKGROUND)
            if maps is not None:
                limits = score_limits(own[t] for own in maps)
                _paste(sheet, paint_scores(thumbnail, maps[i][t], limits, long_side=CELL), (x, y))
            value = _value(scores[i, t], (CELL, row_height - map_height), tuple(map(int, colours[i, t])))
            sheet.paste(value, (x, y + map_height))
    for t, text in enumerate(texts):
        block = text_block(text, TEXT_WIDTH, LETTERS, MAX_TEXT_LINES)
        y = CELL + SPACE + t * (row_height + SPACE)
        sheet.paste(block, (0, y + (row_height - block.height) // 2))
    parts = [sheet, *([text_block(caption, width, LETTERS, 2)] if caption else [])]
    whole = Image.new("RGB", (width, sum(part.height for part in parts) + SPACE * (len(parts) - 1)), BACKGROUND)
    whole.paste(parts[0])
    if caption:
        whole.paste(parts[1], (0, height + SPACE))
    return np.asarray(ImageOps.expand(whole, GAP, BACKGROUND))


def _paste(sheet: Image.Image, image: np.ndarray, corner: tuple[int, int], at_the_bottom: bool = False) -> None:
    """Paste a thumbnail into a square of `CELL` pixels: in its middle, or at its bottom."""
    height, width = image.shape[:2]
    x, y = corner
    sheet.paste(Image.fromarray(image), (x + (CELL - width) // 2, y + (CELL - height) // (1 if at_the_bottom else 2)))


def _value(score: float, size: tuple[int, int], colour: tuple[int, ...]) -> Image.Image:
    """A number on its colour, in dark or light letters, whichever can be read."""
    width, height = (OVERSAMPLING * side for side in size)
    tile = Image.new("RGB", (width, height), colour)
    bright = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 128
    font = typeface(["0"])(1.25 * LETTERS * OVERSAMPLING)
    draw = ImageDraw.Draw(tile)
    draw.text((width / 2, height / 2), f"{score:.2f}", TEXT if bright else BACKGROUND, font, anchor="mm")
    return tile.reduce(OVERSAMPLING)
