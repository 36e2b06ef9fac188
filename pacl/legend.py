"""The card that pictures of results are printed on: legend, share bar, chips and letters (Pillow)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (252, 252, 250), (32, 34, 38), (128, 132, 140)
UNLABELLED = "unlabelled"


def letter_size(picture: np.ndarray) -> int:
    """Size of the letters that suit a picture, in pixels."""
    return int(np.clip(max(picture.shape) / 42, 16, 44))


def with_legend(picture: np.ndarray, shares: np.ndarray, labels: Sequence[str], colours: np.ndarray) -> np.ndarray:
    """Put a picture on paper with a legend below it (wide pictures) or beside it (tall ones).

    Args:
        picture: RGB uint8 [H, W, 3].
        shares: Part of the pixels of each id, [C + 1]; 0 is "unlabelled".
        labels: Names of ids 1..C.
        colours: Of the ids, uint8 [C + 1, 3].

    Returns:
        RGB uint8 [H', W', 3].
    """
    height, width = picture.shape[:2]
    em = letter_size(picture)
    margin = em
    below = width >= 0.85 * height
    room = max(width, 18 * em) if below else int(np.clip(0.45 * width, 15 * em, 24 * em))
    legend = _legend(room, em, shares, labels, colours)
    if below:
        size = (room + 2 * margin, height + legend.height + 3 * margin)
        places = ((margin + (room - width) // 2, margin), (margin, height + 2 * margin))
    else:
        size = (width + room + 3 * margin, max(height, legend.height) + 2 * margin)
        places = ((margin, margin), (width + 2 * margin, margin))
    card = Image.new("RGB", size, PAPER)
    card.paste(Image.fromarray(picture), places[0])
    card.paste(legend, places[1])
    return np.asarray(card)


def _legend(room: int, em: int, shares: np.ndarray, labels: Sequence[str], colours: np.ndarray) -> Image.Image:
    """A bar of shares, a row for each label found in as many columns as fit, the absent in grey; `room` wide."""
    found = sorted((i for i in range(1, len(labels) + 1) if shares[i] > 0), key=lambda i: -shares[i])
    absent = [label for label, share in zip(labels, shares[1:], strict=True) if share == 0]
    rows: list[tuple[str, float, tuple[int, ...] | None]] = [
        (labels[i - 1], float(shares[i]), tuple(int(c) for c in colours[i])) for i in found
    ]
    if shares[0] > 0:
        rows.append((UNLABELLED, float(shares[0]), None))
    chip, gap, step = em, em // 2, round(1.7 * em)
    share_width = length("99.9 %", em)
    widest = max((length(row[0], em) for row in rows), default=0)
    wanted = chip + gap + widest + em + share_width
    columns = int(np.clip((room + 2 * em) // (min(wanted, 18 * em) + 2 * em), 1, len(rows) or 1))
    lines = math.ceil(len(rows) / columns)
    column = (room - 2 * em * (columns - 1)) // columns
    tail = _paragraph("absent: " + ", ".join(absent), room, em, most=4) if absent else []
    bar = round(0.6 * em)
    top = bar + em
    drawing = Image.new("RGB", (room, top + lines * step + (len(tail) * round(1.35 * em) + gap if tail else 0)), PAPER)
    draw = ImageDraw.Draw(drawing)
    _share_bar(drawing, (0, 0, room, bar), [(share, colour) for _, share, colour in rows])
    for n, (name, share, colour) in enumerate(rows):
        x, y = (n // lines) * (column + 2 * em), top + (n % lines) * step
        box = (x, y, x + chip, y + chip)
        drawing.paste(_chip(chip, colour), box)
        right = x + min(column, wanted if columns > 1 or column > wanted else column)
        figure = _percent(share)
        draw.text((right, y + chip / 2), figure, FAINT, font(em, figure), anchor="rm")
        text = ellipsis(name, right - share_width - gap - (x + chip + gap), em)
        draw.text((x + chip + gap, y + chip / 2), text, INK if colour else FAINT, font(em, text), anchor="lm")
    for n, text in enumerate(tail):
        y = top + lines * step + gap + n * round(1.35 * em)
        draw.text((0, y + em / 2), text, FAINT, font(round(0.85 * em), text), anchor="lm")
    return drawing


def _share_bar(drawing: Image.Image, box: tuple[int, int, int, int], parts: list[tuple[float, Any]]) -> None:
    """A rounded bar divided by share."""
    left, top, right, bottom = box
    bar = Image.new("RGB", (right - left, bottom - top), (228, 229, 232))
    draw, start = ImageDraw.Draw(bar), 0.0
    for share, colour in parts:
        stop = start + share * (right - left)
        if colour is not None and round(stop) > round(start):
            draw.rectangle((round(start), 0, round(stop) - 1, bottom - top), colour)
        start = stop
    drawing.paste(bar, box, rounded(bar.size, (bottom - top) / 2))


def _chip(size: int, colour: tuple[int, ...] | None) -> Image.Image:
    """A rounded square of a label's colour; an outlined one for pixels without a label."""
    chip = Image.new("RGB", (size, size), PAPER)
    shape = rounded((size, size), 0.28 * size)
    if colour is not None:
        chip.paste(colour, (0, 0), shape)
        return chip
    chip.paste((205, 207, 212), (0, 0), shape)
    inner, border = Image.new("RGB", (size, size), PAPER), max(1, size // 10)
    hole = rounded((size - 2 * border, size - 2 * border), 0.28 * size - border)
    chip.paste(inner.crop((0, 0, *hole.size)), (border, border), hole)
    return chip


def rounded(size: tuple[int, int], radius: float) -> Image.Image:
    """An anti-aliased rounded rectangle as a mask."""
    fine = 4
    mask = Image.new("L", (size[0] * fine, size[1] * fine))
    corners = (0, 0, size[0] * fine - 1, size[1] * fine - 1)
    ImageDraw.Draw(mask).rounded_rectangle(corners, radius * fine, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _percent(share: float) -> str:
    """Two digits that say something: 0.04 %, 3.1 %, 42 %."""
    percent = 100 * share
    if percent < 0.01:
        return "<0.01 %"
    return f"{percent:.2f} %" if percent < 0.1 else f"{percent:.1f} %" if percent < 99.95 else "100 %"


# --- Text -------------------------------------------------------------------------------------------


def font(size: int, text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; for letters it lacks, a common font of the system if there is one."""
    if any(ord(letter) > 0xFF for letter in text):
        for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf"):
            try:
                return ImageFont.truetype(name, round(0.93 * size))
            except OSError:
                continue
    return ImageFont.load_default(size)


def length(text: str, size: int) -> int:
    return math.ceil(font(size, text).getlength(text))


def ellipsis(text: str, room: float, size: int) -> str:
    """The text, or as much of it as fits."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    if length(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(text[:middle] + "...", size) <= room else (low, middle - 1)
    return text[:low].rstrip() + "..."


def _paragraph(text: str, room: int, em: int, most: int) -> list[str]:
    """Lines of at most `room` pixels at the smaller size of the legend's tail; the last ends in dots if cut."""
    size, lines = round(0.85 * em), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
        if len(lines) > most:
            return [
                *(ellipsis(line, room, size) for line in lines[: most - 1]),
                ellipsis(f"{lines[most - 1]} ...", room, size),
            ]
    return [ellipsis(line, room, size) for line in lines]
