"""A matrix of images and texts as one image: how well they fit each other, as a number and a colour in each cell.

The fewer of the two are the columns, so that the matrix grows downwards: up to as many images as texts, images are
above and texts beside; more images are beside, and the texts above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from pacl.printing import decimals
from pacl.results.contact_sheet import GAP
from pacl.results.fonts import BACKGROUND, OVERSAMPLING, TEXT, text_block, typeface
from pacl.results.overlay import colour_map, fit, paint_scores, score_limits
from pacl.results.palette import palette

CELL = 128  # pixels: width of a cell at most, and the long side of a thumbnail
FLAT = 79  # pixels: height of a cell without a map, at most
NARROWEST, FLATTEST = 52, 46  # pixels: of a cell, however many there are
WIDEST, TALLEST = 1600, 3200  # pixels: all cells side by side, or below each other, where the smallest ones allow it
BAND = 36  # pixels: height of the part of a cell that holds the value, where maps are above it
TEXT_WIDTH = 230  # pixels: of texts and file names beside the cells
LETTERS = 17  # pixels
NAME_LETTERS = 13  # pixels, of file names
FRAME = 4  # pixels, around the best text of each image
SPACE = 10  # pixels between cells
MAX_TEXT_LINES = 5
MAX_HEAD_LINES = 8  # of a text above the cells


@dataclass(frozen=True)
class _Layout:
    """Where things are: ``images_above`` says which of the two are columns."""

    images_above: bool
    cell: tuple[int, int]  # width and height
    map_height: int  # of the part of a cell above its value; 0 without maps
    left: int  # of the first cell
    top: int


def similarity_matrix(
    thumbnails: Sequence[np.ndarray],
    texts: Sequence[str],
    scores: np.ndarray,
    maps: Sequence[np.ndarray] | None = None,
    caption: str = "",
    names: Sequence[str] = (),
) -> np.ndarray:
    """Draw the scores of I images with T texts; the best text of each image has a frame.

    Args:
        thumbnails: I images, each RGB uint8 [h, w, 3] of at most `CELL` pixels a side.
        texts: T of them.
        scores: float [I, T]. Colours go from the lowest to the highest.
        maps: for each image, float [T, h, w] of its thumbnail's size: where the texts are. The colours of a text's maps
            have one scale over all images.
        caption: a line below the matrix.
        names: of the images, drawn with them; none are drawn without.

    Returns:
        RGB uint8 [H, W, 3].
    """
    images_above = len(thumbnails) <= len(texts)
    columns, rows = (len(thumbnails), len(texts)) if images_above else (len(texts), len(thumbnails))
    width = _side(CELL, columns, WIDEST, NARROWEST)
    map_height = width + SPACE // 2 if maps is not None else 0
    height = map_height + BAND if maps is not None else _side(FLAT, rows, TALLEST, FLATTEST)
    if images_above:
        above = [_image_above(image, name, width) for image, name in _named(thumbnails, names)]
        beside = [_text(text, TEXT_WIDTH, height) for text in texts]
    else:
        above = [text_block(text, width, _letters(width), MAX_HEAD_LINES) for text in texts]
        beside = [_image_beside(image, name, (width, height)) for image, name in _named(thumbnails, names)]
    top, left = max(head.height for head in above) + SPACE, max(head.width for head in beside) + GAP
    layout = _Layout(images_above, (width, height), map_height, left, top)
    size = (left + columns * (width + SPACE) - SPACE, top + rows * (height + SPACE) - SPACE)
    sheet = Image.new("RGB", (size[0] + FRAME, size[1] + FRAME), BACKGROUND)
    for column, head in enumerate(above):
        sheet.paste(head, (left + column * (width + SPACE) + (width - head.width) // 2, top - SPACE - head.height))
    for row, head in enumerate(beside):
        sheet.paste(head, (0, top + row * (height + SPACE) + (height - head.height) // 2))
    _draw_cells(sheet, layout, thumbnails, scores, maps)
    return np.asarray(ImageOps.expand(_captioned(sheet, caption), GAP, BACKGROUND))


def _side(most: int, count: int, room: int, least: int) -> int:
    """Side of a cell, in pixels: as many as there are shall fit into the room."""
    return max(least, min(most, room // count - SPACE))


def _named(thumbnails: Sequence[np.ndarray], names: Sequence[str]) -> list[tuple[np.ndarray, str]]:
    return list(zip(thumbnails, names or [""] * len(thumbnails), strict=True))


def _letters(width: int) -> int:
    """Height of letters that suits the width of a cell."""
    return LETTERS if width == CELL else NAME_LETTERS


def _text(text: str, width: int, height: int) -> Image.Image:
    """A text beside the cells, in as many lines as fit."""
    return text_block(text, width, LETTERS, max(1, min(MAX_TEXT_LINES, round(height / (1.35 * LETTERS)))))


def _image_above(image: np.ndarray, name: str, width: int) -> Image.Image:
    """A thumbnail with its name below it."""
    small = Image.fromarray(_within(image, width, width))
    below = text_block(name, width, NAME_LETTERS, 2) if name else Image.new("RGB", (width, 0))
    head = Image.new("RGB", (width, small.height + (SPACE // 2 + below.height if name else 0)), BACKGROUND)
    head.paste(small, ((width - small.width) // 2, 0))
    head.paste(below, (0, head.height - below.height))
    return head


def _image_beside(image: np.ndarray, name: str, cell: tuple[int, int]) -> Image.Image:
    """A thumbnail at the right, with its name at the left of it."""
    small = Image.fromarray(_within(image, CELL, min(CELL, cell[1])))
    text = text_block(name, TEXT_WIDTH, NAME_LETTERS, max(1, round(cell[1] / (1.35 * NAME_LETTERS)))) if name else None
    room = TEXT_WIDTH + SPACE if text is not None else 0
    head = Image.new("RGB", (room + CELL, max(small.height, text.height if text is not None else 0)), BACKGROUND)
    if text is not None:
        head.paste(text, (0, (head.height - text.height) // 2))
    head.paste(small, (head.width - small.width, (head.height - small.height) // 2))
    return head


def _within(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image, scaled down where it is larger than width x height pixels."""
    scale = min(1.0, width / image.shape[1], height / image.shape[0])
    return image if scale == 1 else fit(image, max(1, round(scale * max(image.shape[:2]))))


def _draw_cells(
    sheet: Image.Image,
    layout: _Layout,
    thumbnails: Sequence[np.ndarray],
    scores: np.ndarray,
    maps: Sequence[np.ndarray] | None,
) -> None:
    draw = ImageDraw.Draw(sheet)
    low, high = float(scores.min()), float(scores.max())
    colours = colour_map(((scores - low) / max(high - low, 1e-12)).astype(np.float32))  # [I, T, 3]
    limits = [score_limits(own[t] for own in maps) for t in range(scores.shape[1])] if maps is not None else []
    width, height = layout.cell
    for i, best in enumerate(scores.argmax(axis=1)):
        for t in range(scores.shape[1]):
            column, row = (i, t) if layout.images_above else (t, i)
            x, y = layout.left + column * (width + SPACE), layout.top + row * (height + SPACE)
            if t == best:
                box = (x - FRAME, y - FRAME, x + width + FRAME - 1, y + height + FRAME - 1)
                draw.rectangle(box, tuple(map(int, palette(1)[1])))
                draw.rectangle((x, y, x + width - 1, y + height - 1), BACKGROUND)
            if maps is not None:
                painted = _within(paint_scores(thumbnails[i], maps[i][t], limits[t], long_side=CELL), width, width)
                at = (x + (width - painted.shape[1]) // 2, y + (width - painted.shape[0]) // 2)
                sheet.paste(Image.fromarray(painted), at)
            value = _value(scores[i, t], (width, height - layout.map_height), tuple(map(int, colours[i, t])))
            sheet.paste(value, (x, y + layout.map_height))


def _captioned(sheet: Image.Image, caption: str) -> Image.Image:
    if not caption:
        return sheet
    below = text_block(caption, sheet.width, LETTERS, 2)
    whole = Image.new("RGB", (sheet.width, sheet.height + SPACE + below.height), BACKGROUND)
    whole.paste(sheet)
    whole.paste(below, (0, sheet.height + SPACE))
    return whole


def _value(score: float, size: tuple[int, int], colour: tuple[int, ...]) -> Image.Image:
    """A number on its colour, in dark or light letters, whichever can be read."""
    width, height = (OVERSAMPLING * side for side in size)
    tile = Image.new("RGB", (width, height), colour)
    bright = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 128
    font = typeface(["0"])((1.25 * LETTERS if size[0] > CELL // 2 else LETTERS) * OVERSAMPLING)
    draw = ImageDraw.Draw(tile)
    draw.text((width / 2, height / 2), decimals(score, 2), TEXT if bright else BACKGROUND, font, anchor="mm")
    return tile.reduce(OVERSAMPLING)
