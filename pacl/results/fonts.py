"""Fonts, line breaks and text colours of drawn results (Pillow)."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from pacl.printing import without_controls

BACKGROUND, TEXT, MUTED = (252, 252, 250), (32, 34, 38), (124, 128, 136)
MOST_LETTERS = 1000  # of a drawn text; none is as wide
OVERSAMPLING = 2  # text is drawn this many times larger, then scaled down: even letter spacing, smooth edges

Typeface = Callable[[float], ImageFont.FreeTypeFont]
"""The font of a size in pixels."""


def typeface(texts: Iterable[str]) -> Typeface:
    """Pillow's own typeface, or for letters beyond Latin one of the system's if there is one."""
    highest = max((ord(letter) for text in texts for letter in text), default=0)
    cjk = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "msyh.ttc", "Arial Unicode.ttf")
    other = ("DejaVuSans.ttf", "arial.ttf")
    for name in (*(cjk if highest > 0x2E7F else ()), *(other if highest > 0xFF else ())):
        try:
            _font(name, 10)
        except OSError:
            continue
        return lambda size: _font(name, round(0.93 * size))
    return lambda size: _font(None, round(size))


@lru_cache(32)
def _font(name: str | None, size: int) -> ImageFont.FreeTypeFont:
    """A font by its file, or Pillow's own; one that is kept for the next image of a folder."""
    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)  # type: ignore[return-value]


@lru_cache(4096)
def _length(text: str, font: ImageFont.FreeTypeFont) -> float:
    """Width of a line in pixels. All images of a folder have the same labels, and measuring one takes 0.1 ms."""
    return font.getlength(text)


def shorten(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The text as one line, ending in "..." if it is wider than ``width`` pixels."""
    text = without_controls(text)[:MOST_LETTERS]
    if _length(text, font) <= width:
        return text
    return text[: largest(len(text), lambda n: _length(text[:n] + "...", font) <= width)].rstrip() + "..."


def wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The text in lines of at most ``width`` pixels, broken at spaces, and within words that are wider."""
    lines = [""]
    words = without_controls(text)[:MOST_LETTERS].split()
    for word in (part for whole in words for part in _parts(whole, width, font)):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _length(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shorten(line, width, font) for line in lines]


def _parts(word: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """A word in parts of at most ``width`` pixels, or of one letter."""
    if _length(word, font) <= width:
        return [word]
    parts = [""]
    for letter in word:
        if parts[-1] and _length(parts[-1] + letter, font) > width:
            parts.append("")
        parts[-1] += letter
    return parts


def text_block(text: str, width: int, size: float, max_lines: int = 1) -> Image.Image:
    """Draw a text in at most ``max_lines`` lines: an RGB image of that width in pixels."""
    font = typeface([text])(size * OVERSAMPLING)
    room, step = width * OVERSAMPLING, round(1.35 * size) * OVERSAMPLING
    lines = wrap(text, room, font)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], shorten(" ".join(lines[max_lines - 1 :]), room, font)]
    block = Image.new("RGB", (room, len(lines) * step), BACKGROUND)
    draw = ImageDraw.Draw(block)
    for n, line in enumerate(lines):
        draw.text((0, (n + 0.5) * step), line, TEXT, font, anchor="lm")
    return block.reduce(OVERSAMPLING)


def largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n in 1..limit that fits, found by bisection; 0 if none does."""
    return bisect.bisect_left(range(1, limit + 1), True, key=lambda n: not fits(n))
