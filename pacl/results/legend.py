"""The card that pictures of results are printed on: legend, bar of shares, colour bar (Pillow)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (252, 252, 250), (32, 34, 38), (124, 128, 136)
LINE, EMPTY = (226, 227, 231), (186, 189, 196)
UNLABELLED = "unlabelled"
FINE = 2  # panels are drawn this much larger, then scaled down: even spacing of letters, smooth corners

Colour = tuple[int, ...]
Face = Callable[[float], ImageFont.FreeTypeFont]  # size in pixels -> font


def with_legend(picture: np.ndarray, shares: np.ndarray, labels: Sequence[str], colours: np.ndarray) -> np.ndarray:
    """Put a picture on paper with a legend below it, or beside it where it is tall.

    The legend has a bar of all shares, a row for each label found, the largest first, in as many columns as
    fit, and then names those that were not found.

    Args:
        picture: RGB uint8 [H, W, 3].
        shares: Part of the pixels of each id, [C + 1]; 0 is no label.
        labels: Names of ids 1..C.
        colours: Of the ids, uint8 [C + 1, 3].

    Returns:
        RGB uint8 [H', W', 3].
    """
    height, width = picture.shape[:2]
    em = _letter_size(picture)
    below = width >= 0.85 * height
    room = max(width, 18 * em) if below else int(np.clip(0.45 * width, 15 * em, 24 * em))
    order = sorted(range(1, len(labels) + 1), key=lambda i: -shares[i])
    rows: list[tuple[str, float, Colour | None]] = [
        (labels[i - 1], float(shares[i]), tuple(map(int, colours[i]))) for i in order if shares[i] > 0
    ]
    if shares[0] > 0:
        rows.append((UNLABELLED, float(shares[0]), None))
    absent = [label for label, share in zip(labels, shares[1:], strict=True) if share == 0]
    return _card(picture, _legend(room * FINE, em * FINE, rows, absent, typeface(labels)), em, below)


def with_colour_bar(
    picture: np.ndarray, title: str, ends: tuple[str, str], colours: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Put a picture on paper with a title and a colour bar below it.

    Args:
        picture: RGB uint8 [H, W, 3].
        title: One line; may be empty.
        ends: What stands at the left and right end of the bar.
        colours: Levels in 0..1, [H, W], to RGB uint8 [H, W, 3].

    Returns:
        RGB uint8 [H', W', 3].
    """
    em = _letter_size(picture)
    room, unit, face = max(picture.shape[1], 14 * em) * FINE, em * FINE, typeface([title])
    small, top = face(0.85 * unit), round(1.6 * unit) if title else 0
    panel = Image.new("RGB", (room, top + unit), PAPER)
    draw, middle = ImageDraw.Draw(panel), top + unit // 2
    draw.text((0, unit / 2), ellipsis(title, room, face(unit)), INK, face(unit), anchor="lm")
    left, after = (math.ceil(small.getlength(end)) for end in ends)
    start, stop = left + unit // 2, min(left + 20 * unit, room - after - unit // 2)
    levels = np.linspace(0, 1, stop - start, dtype=np.float32)[None].repeat(round(0.7 * unit), axis=0)
    ramp = Image.fromarray(colours(levels))
    panel.paste(ramp, (start, middle - ramp.height // 2), _rounded(ramp.size, ramp.height / 2))
    draw.text((0, middle), ends[0], FAINT, small, anchor="lm")
    draw.text((stop + unit // 2, middle), ends[1], FAINT, small, anchor="lm")
    return _card(picture, panel, em, below=True)


def _letter_size(picture: np.ndarray) -> int:
    return int(np.clip(max(picture.shape) / 42, 16, 44))


def _card(picture: np.ndarray, panel: Image.Image, margin: int, below: bool) -> np.ndarray:
    """Picture and panel on paper: RGB uint8 [H', W', 3]."""
    panel = panel.reduce(FINE)
    height, width = picture.shape[:2]
    if below:
        size = (max(width, panel.width) + 2 * margin, height + panel.height + 3 * margin)
        places = (((size[0] - width) // 2, margin), (margin, height + 2 * margin))
    else:
        size = (width + panel.width + 3 * margin, max(height, panel.height) + 2 * margin)
        places = ((margin, margin), (width + 2 * margin, margin))
    card = Image.new("RGB", size, PAPER)
    card.paste(Image.fromarray(picture), places[0])
    card.paste(panel, places[1])
    return np.asarray(card)


def _legend(
    room: int, em: int, rows: list[tuple[str, float, Colour | None]], absent: list[str], face: Face
) -> Image.Image:
    if len(rows) > 30:
        em = round(0.8 * em)
    font, small = face(em), face(0.85 * em)
    gap, figures = em // 2, math.ceil(font.getlength("99.9 %"))
    # As many columns as fit most names: one long name is cut short rather than let it widen every column.
    lengths = sorted(font.getlength(name) for name, _, _ in rows)
    typical = lengths[-1 - len(rows) // 10]
    wanted = math.ceil(em + gap + typical + em + figures)
    between = 2 * em
    columns = int(np.clip((room + between) // (wanted + between), 1, len(rows)))
    lines = math.ceil(len(rows) / columns)
    column = (room - between * (columns - 1)) // columns
    bar, step, small_step = round(0.6 * em), round(1.7 * em), round(1.35 * em)
    top, tail = bar + em, _tail(absent, room, small)
    bottom = top + (lines - 1) * step + round(1.25 * em)  # a g reaches below its row's chip
    panel = Image.new("RGB", (room, bottom + (gap + len(tail) * small_step if tail else 0)), PAPER)
    draw = ImageDraw.Draw(panel)
    panel.paste(_share_bar(room, bar, rows), (0, 0), _rounded((room, bar), bar / 2))
    for n, (name, share, colour) in enumerate(rows):
        x, y = n // lines * (column + between), top + n % lines * step
        draw.rounded_rectangle((x, y, x + em, y + em), 0.28 * em, colour, EMPTY, 0 if colour else FINE)
        right, left = x + min(column, wanted), x + em + gap
        figure = _percent(share)
        text = ellipsis(name, right - left - figures - gap, font)
        draw.text((left, y + em / 2), text, INK if colour else FAINT, font, anchor="lm")
        draw.text((right, y + em / 2), figure, FAINT, font, anchor="rm")
    for n, text in enumerate(tail):
        draw.text((0, bottom + gap + (n + 0.6) * small_step), text, FAINT, small, anchor="lm")
    return panel


def _share_bar(width: int, height: int, rows: Iterable[tuple[str, float, Colour | None]]) -> Image.Image:
    """The whole width, divided by share."""
    bar = Image.new("RGB", (width, height), LINE)
    draw, start = ImageDraw.Draw(bar), 0.0
    for _, share, colour in rows:
        stop = start + share * width
        if colour is not None and round(stop) > round(start):
            draw.rectangle((round(start), 0, round(stop) - 1, height), colour)
        start = stop
    return bar


def _rounded(size: tuple[int, int], radius: float) -> Image.Image:
    """A rectangle with round corners, as a mask."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius, fill=255)
    return mask


def _percent(share: float) -> str:
    """Digits that say something: <0.01 %, 0.04 %, 3.1 %, 42.0 %."""
    percent = 100 * share
    if percent < 0.01:
        return "<0.01 %"
    return f"{percent:.2f} %" if percent < 0.1 else f"{percent:.1f} %" if percent < 99.95 else "100 %"


# --- Text -------------------------------------------------------------------------------------------


def typeface(texts: Iterable[str]) -> Face:
    """Pillow's own typeface; where letters need more than Latin, one of the system's if there is one."""
    top = max((ord(letter) for text in texts for letter in text), default=0)
    wide = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "msyh.ttc", "Arial Unicode.ttf")
    for name in (*(wide if top > 0x2E7F else ()), *(("DejaVuSans.ttf", "arial.ttf") if top > 0xFF else ())):
        try:
            ImageFont.truetype(name, 10)
        except OSError:
            continue
        return lambda size: ImageFont.truetype(name, round(0.93 * size))
    return lambda size: ImageFont.load_default(round(size))  # type: ignore[return-value]


def ellipsis(text: str, room: float, font: ImageFont.FreeTypeFont) -> str:
    """The text on one line, or as much of it as fits."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)[:1000]
    if font.getlength(text) <= room:
        return text
    fits = _largest(len(text), lambda n: font.getlength(text[:n] + "...") <= room)
    return text[:fits].rstrip() + "..."


def _tail(absent: list[str], room: int, font: ImageFont.FreeTypeFont, most: int = 4) -> list[str]:
    """At most `most` lines that name the labels not found, or as many of them as fit and how many more."""
    if not absent:
        return []

    def lines(named: int) -> list[str]:
        more = f" and {len(absent) - named} more" if named < len(absent) else ""
        return wrap("absent: " + ", ".join(absent[:named]) + more, room, font)

    return lines(_largest(min(len(absent), 500), lambda named: len(lines(named)) <= most))[:most]


def wrap(text: str, room: int, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return [ellipsis(line, room, font) for line in lines]


def _largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest n in 0..limit for which `holds`, by bisection; 0 if none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
