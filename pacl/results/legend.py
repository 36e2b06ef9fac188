"""Legends and colour bars, drawn by Pillow and added to an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pacl.results.fonts import BACKGROUND, MUTED, OVERSAMPLING, TEXT, largest, shorten, typeface, wrap

LINE, OUTLINE = (226, 227, 231), (186, 189, 196)  # of the bar of shares; of swatches without a colour
MAX_NOTE_LINES = 4


class Entry(NamedTuple):
    """An entry of a legend: a name, its share of the pixels or None for none, its RGB colour or None for no swatch."""

    name: str
    share: float | None
    colour: tuple[int, ...] | None


@dataclass(frozen=True)
class Legend:
    """A bar of all shares, an entry for each label in as many columns as fit, and a note below.

    Attributes:
        entries: in order.
        note: title of the note, such as "no pixels".
        names: labels that the note lists; those that do not fit are counted.
    """

    entries: Sequence[Entry]
    note: str = ""
    names: Sequence[str] = ()

    def draw(self, width: int, size: int) -> Image.Image:
        """The legend as an RGB image of ``width`` pixels, letters ``size`` pixels high."""
        face = typeface([*(entry.name for entry in self.entries), *self.names])
        width, em = width * OVERSAMPLING, size * OVERSAMPLING
        if len(self.entries) > 30:
            em = round(0.8 * em)
        font, small = face(em), face(0.85 * em)
        gap, between, percent_width = em // 2, 2 * em, math.ceil(font.getlength("99.9 %"))
        # Columns are as wide as 90 % of the names need: longer names are shortened.
        lengths = sorted(font.getlength(entry.name) for entry in self.entries)
        wanted = math.ceil(em + gap + lengths[-1 - len(lengths) // 10] + em + percent_width)
        columns = int(np.clip((width + between) // (wanted + between), 1, len(lengths)))
        lines = math.ceil(len(lengths) / columns)
        column = (width - between * (columns - 1)) // columns
        bar, step, small_step = round(0.6 * em), round(1.7 * em), round(1.35 * em)
        top, note = bar + em, self._note_lines(width, small)
        bottom = top + (lines - 1) * step + round(1.25 * em)  # leaves room for descenders
        panel = Image.new("RGB", (width, bottom + (gap + len(note) * small_step if note else 0)), BACKGROUND)
        draw = ImageDraw.Draw(panel)
        panel.paste(self._share_bar(width, bar), (0, 0), _rounded_mask((width, bar)))
        for n, (name, share, colour) in enumerate(self.entries):
            x, y = n // lines * (column + between), top + n % lines * step
            draw.rounded_rectangle((x, y, x + em, y + em), 0.28 * em, colour, OUTLINE, 0 if colour else OVERSAMPLING)
            right, left = x + min(column, wanted), x + em + gap
            text = shorten(name, right - left - percent_width - gap, font)
            draw.text((left, y + em / 2), text, TEXT if colour else MUTED, font, anchor="lm")
            draw.text((right, y + em / 2), "" if share is None else _percent(share), MUTED, font, anchor="rm")
        for n, text in enumerate(note):
            draw.text((0, bottom + gap + (n + 0.6) * small_step), text, MUTED, small, anchor="lm")
        return panel.reduce(OVERSAMPLING)

    def _share_bar(self, width: int, height: int) -> Image.Image:
        bar = Image.new("RGB", (width, height), LINE)
        draw, start = ImageDraw.Draw(bar), 0.0
        for _, share, colour in self.entries:
            stop = start + (share or 0.0) * width
            if colour is not None and round(stop) > round(start):
                draw.rectangle((round(start), 0, round(stop) - 1, height), colour)
            start = stop
        return bar

    def _note_lines(self, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
        """At most `MAX_NOTE_LINES` lines: the names, or as many as fit and the number of the others."""
        if not self.names:
            return []

        def lines(named: int) -> list[str]:
            more = f" and {len(self.names) - named} more" if named < len(self.names) else ""
            return wrap(f"{self.note}: {', '.join(self.names[:named])}{more}", width, font)

        fitting = largest(min(len(self.names), 500), lambda named: len(lines(named)) <= MAX_NOTE_LINES)
        return lines(fitting)[:MAX_NOTE_LINES]


def with_legend(image: np.ndarray, legend: Legend) -> np.ndarray:
    """Add a legend below an image, or beside it if it is tall.

    Args:
        image: RGB uint8 [H, W, 3].
        legend: what to draw.

    Returns:
        RGB uint8 [H', W', 3].
    """
    height, width = image.shape[:2]
    size = _letter_size(image)
    below = width >= 0.85 * height
    room = max(width, 18 * size) if below else int(np.clip(0.45 * width, 15 * size, 24 * size))
    return _combine(image, legend.draw(room, size), size, below)


def with_colour_bar(
    image: np.ndarray, title: str, ends: tuple[str, str], colour_map: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Add a title and a colour bar below an image.

    Args:
        image: RGB uint8 [H, W, 3].
        title: one line; may be empty.
        ends: texts at the left and right end of the bar.
        colour_map: turns values in [0, 1], [H, W], into RGB uint8 [H, W, 3].

    Returns:
        RGB uint8 [H', W', 3].
    """
    size = _letter_size(image)
    width, em, face = max(image.shape[1], 14 * size) * OVERSAMPLING, size * OVERSAMPLING, typeface([title])
    small, top = face(0.85 * em), round(1.6 * em) if title else 0
    panel = Image.new("RGB", (width, top + em), BACKGROUND)
    draw, middle = ImageDraw.Draw(panel), top + em // 2
    draw.text((0, em / 2), shorten(title, width, face(em)), TEXT, face(em), anchor="lm")
    left, right = (math.ceil(small.getlength(end)) for end in ends)
    start, stop = left + em // 2, min(left + 20 * em, width - right - em // 2)
    values = np.linspace(0, 1, stop - start, dtype=np.float32)[None].repeat(round(0.7 * em), axis=0)
    bar = Image.fromarray(colour_map(values))
    panel.paste(bar, (start, middle - bar.height // 2), _rounded_mask(bar.size))
    draw.text((0, middle), ends[0], MUTED, small, anchor="lm")
    draw.text((stop + em // 2, middle), ends[1], MUTED, small, anchor="lm")
    return _combine(image, panel.reduce(OVERSAMPLING), size, below=True)


def _letter_size(image: np.ndarray) -> int:
    return int(np.clip(max(image.shape) / 42, 16, 44))


def _combine(image: np.ndarray, panel: Image.Image, margin: int, below: bool) -> np.ndarray:
    """The image with a panel below or beside it: RGB uint8 [H', W', 3]."""
    height, width = image.shape[:2]
    if below:
        size = (max(width, panel.width) + 2 * margin, height + panel.height + 3 * margin)
        corners = (((size[0] - width) // 2, margin), (margin, height + 2 * margin))
    else:
        size = (width + panel.width + 3 * margin, max(height, panel.height) + 2 * margin)
        corners = ((margin, margin), (width + 2 * margin, margin))
    combined = Image.new("RGB", size, BACKGROUND)
    combined.paste(Image.fromarray(image), corners[0])
    combined.paste(panel, corners[1])
    return np.asarray(combined)


def _rounded_mask(size: tuple[int, int]) -> Image.Image:
    """A bar with semicircular ends, as a mask."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), size[1] / 2, fill=255)
    return mask


def _percent(share: float) -> str:
    """``0 %``, ``<0.01 %``, ``0.04 %``, ``3.1 %``, ``42.0 %``, ``100 %``."""
    percent = 100 * share
    if percent < 0.01:
        return "<0.01 %" if share else "0 %"
    return f"{percent:.2f} %" if percent < 0.1 else f"{percent:.1f} %" if percent < 99.95 else "100 %"
