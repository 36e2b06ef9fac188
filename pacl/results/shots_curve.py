"""The curve of accuracy by the number of training images, as an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pacl.results.fonts import BACKGROUND, MUTED, OVERSAMPLING, typeface
from pacl.results.legend import LINE
from pacl.results.palette import palette

WIDTH, HEIGHT, EM = 760, 400, 13  # pixels
LEFT, RIGHT, TOP, BOTTOM = 48, 130, 40, 52  # margins
STEP = 20  # percent between lines


class Point(NamedTuple):
    """A number of training images, and the accuracy with its interval, in percent."""

    shots: str
    value: float
    low: float
    high: float


def draw_shots_curve(title: str, points: Sequence[Point], levels: Sequence[tuple[str, float]]) -> np.ndarray:
    """Draw accuracy against training images, RGB uint8 [H, W, 3].

    Args:
        title: what was measured.
        points: from left to right, evenly spaced; bars are their intervals.
        levels: names and values of what does not depend on training images, such as chance; drawn as dashed lines,
            over the curve, where both may be the same.
    """
    scale = OVERSAMPLING
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), BACKGROUND)
    draw, font = ImageDraw.Draw(image), typeface([title])(EM * scale)
    left, right, top, bottom = LEFT * scale, (WIDTH - RIGHT) * scale, TOP * scale, (HEIGHT - BOTTOM) * scale
    curve, *others = [tuple(colour) for colour in palette(1 + len(levels))[1:].tolist()]

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * value / 100

    def x_of(index: int) -> float:
        return left + (right - left) * (index + 0.5) / len(points)

    draw.text((left, 8 * scale), title, fill=MUTED, font=font, anchor="la")
    for value in range(0, 101, STEP):
        draw.line((left, y_of(value), right, y_of(value)), fill=LINE, width=scale)
        draw.text((left - 8 * scale, y_of(value)), f"{value}", fill=MUTED, font=font, anchor="rm")
    line = [(x_of(i), y_of(point.value)) for i, point in enumerate(points)]
    if len(line) > 1:
        draw.line(line, fill=curve, width=2 * scale, joint="curve")
    for (name, level), colour in zip(levels, others, strict=True):
        for dash in range(left, right, 12 * scale):
            draw.line((dash, y_of(level), dash + 6 * scale, y_of(level)), fill=colour, width=2 * scale)
        draw.text((right + 8 * scale, y_of(level)), f"{name} {level:.1f}", fill=colour, font=font, anchor="lm")
    for (x, y), point in zip(line, points, strict=True):
        draw.line((x, y_of(point.low), x, y_of(point.high)), fill=curve, width=2 * scale)
        draw.ellipse((x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale), fill=curve)
        draw.text((x + 7 * scale, y + 5 * scale), f"{point.value:.1f}", fill=curve, font=font, anchor="la")
        draw.text((x, bottom + 8 * scale), point.shots, fill=MUTED, font=font, anchor="ma")
    draw.text(
        ((left + right) / 2, (HEIGHT - 6) * scale), "training images of each class", fill=MUTED, font=font, anchor="md"
    )
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
