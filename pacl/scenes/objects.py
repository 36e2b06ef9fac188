"""The objects of the procedural scenes: their outlines, colours, textures and markings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from pacl.scenes.captions import KINDS
from pacl.scenes.grounds import Float, Image
from pacl.scenes.polygons import Points, fill, polygon

# Colour -> RGB of the object, and RGB of its stripes, dots or squares.
RGB: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((225, 28, 36), (150, 10, 22)),
    "orange": ((252, 132, 16), (206, 92, 4)),
    "yellow": ((254, 222, 30), (208, 170, 8)),
    "green": ((36, 196, 72), (14, 138, 48)),
    "blue": ((34, 78, 230), (16, 38, 150)),
    "purple": ((140, 50, 196), (88, 24, 136)),
    "pink": ((255, 122, 190), (255, 188, 222)),
    "black": ((24, 24, 28), (68, 68, 76)),
}


@dataclass
class Shape:
    """The outline of an object in an image.

    Attributes:
        kind: one of `KINDS`.
        size: side of the square around the unrotated outline, in pixels.
        cx: centre of the square, in pixels from the left.
        cy: centre of the square, in pixels from the top.
        angle: rotation in radians.
        top: first row of the bounding box.
        left: first column of the bounding box.
        cover: share of each pixel of the bounding box that the object covers, float32 [h, w] in [0, 1].
    """

    kind: str
    size: float
    cx: float
    cy: float
    angle: float
    top: int
    left: int
    cover: NDArray[np.float32]

    @property
    def bottom(self) -> int:
        return self.top + self.cover.shape[0]

    @property
    def right(self) -> int:
        return self.left + self.cover.shape[1]


def place(rng: Random, kind: str, h: int, w: int, sizes: tuple[float, float]) -> Shape:
    """Place an object at random, slightly rotated, with at most about a tenth of it outside the image.

    Args:
        rng: random generator.
        kind: one of `KINDS`.
        h: height of the image in pixels.
        w: width of the image in pixels.
        sizes: range of sizes, as fractions of the shorter side of the image.
    """
    size = max(rng.uniform(*sizes), rng.uniform(*sizes)) * min(h, w)  # large sizes are more frequent
    cx, cy = (rng.uniform(0.42 * size, side - 0.42 * size) for side in (w, h))
    angle = math.radians(rng.uniform(-15, 15))
    cos, sin = math.cos(angle), math.sin(angle)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array([[flip * cos, flip * sin], [-sin, cos]], np.float32) * np.float32(size)
    reach = 0.72 * size  # half a diagonal
    left, top = max(int(cx - reach), 0), max(int(cy - reach), 0)
    right, bottom = min(math.ceil(cx + reach), w), min(math.ceil(cy + reach), h)
    origin = np.array([cx - left, cy - top], np.float32)
    box = (bottom - top, right - left)
    cover = fill([p @ turn + origin for p in SILHOUETTES[kind]], box)
    return Shape(kind, size, cx, cy, angle, top, left, cover)


def paint(rng: Random, image: Image, shape: Shape, colour: str, texture: str) -> None:
    """Draw an object on an image, in place: its colour, its texture in a shade of it, and the markings of its kind."""
    h, w = shape.cover.shape
    light = rng.uniform(0.9, 1.08)
    base, shade = (np.array([c * light + rng.uniform(-8, 8) for c in rgb], np.float32) for rgb in RGB[colour])
    cos, sin = math.cos(shape.angle) / shape.size, math.sin(shape.angle) / shape.size
    x = np.arange(w, dtype=np.float32) + np.float32(shape.left + 0.5 - shape.cx)
    y = (np.arange(h, dtype=np.float32) + np.float32(shape.top + 0.5 - shape.cy))[:, None]
    u, v = x * cos + y * sin, y * cos - x * sin  # coordinates of the object, -0.5 .. 0.5
    sharp = 0.08 * shape.size  # edges of the pattern are about a pixel wide
    paint = base + (shade - base) * _ink(_TEXTURE_WAVES[texture](rng, u, v), sharp)
    paint += (INK - paint) * (INK_STRENGTH * _ink(_MARKINGS[shape.kind](u, v), sharp))
    patch = image[shape.top : shape.bottom, shape.left : shape.right]
    paint -= patch
    paint *= shape.cover[..., None]
    paint += patch
    np.copyto(patch, np.clip(paint + 0.5, 0, 255), casting="unsafe")


def _ink(wave: Float, sharp: float) -> Float:
    """1 where a wave is positive, else 0, with anti-aliased edges: [h, w] -> [h, w, 1] in [0, 1]."""
    return np.clip(wave * max(sharp, 1.5) + 0.5, 0, 1)[..., None]


def _striped(rng: Random, u: Float, v: Float) -> Float:
    angle, f = rng.choice((0, 0.25, 0.5, 0.75)) * math.pi, 2 * math.pi * rng.uniform(2.2, 3.0)
    return np.sin(f * (math.cos(angle) * u + math.sin(angle) * v))


def _dotted(rng: Random, u: Float, v: Float) -> Float:
    f = 2 * math.pi * rng.uniform(2.2, 3.0)
    return np.cos(f * u) + np.cos(f * v) - 0.6


def _checkered(rng: Random, u: Float, v: Float) -> Float:
    f = 2 * math.pi * rng.uniform(1.6, 2.2)
    return 2 * np.sin(f * u) * np.sin(f * v)


_TEXTURE_WAVES: dict[str, Callable[[Random, Float, Float], Float]] = {
    "plain": lambda rng, u, v: np.full_like(u, -1),
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
}

INK, INK_STRENGTH = 250.0, 0.85
_F = 2 * math.pi * 5  # five repeats across an object

# Markings such as the scales of a fish, which identify the kind of an object in every patch, so that a small image
# tower can recognise it without its outline. Functions of the object's coordinates, drawn where they are positive.
_MARKINGS: dict[str, Callable[[Float, Float], Float]] = {
    "ball": lambda u, v: np.cos(_F * np.hypot(u, v)) - 0.4,  # rings
    "star": lambda u, v: np.cos(10 * np.arctan2(v - 0.03, u)) - 0.4,  # rays
    "heart": lambda u, v: np.cos(_F * u) - 0.4,  # upright lines
    "moon": lambda u, v: np.cos(1.2 * _F * u) + np.cos(1.2 * _F * v) - 0.9,  # craters
    "fish": lambda u, v: np.cos(_F * u + 2.4 * np.abs(np.sin(_F * v / 2))) - 0.4,  # scales
    "boat": lambda u, v: np.cos(_F * v) - 0.4,  # planks
    "house": lambda u, v: np.minimum(np.cos(0.8 * _F * u), np.cos(0.8 * _F * v)) + 0.1,  # panes
    "tree": lambda u, v: np.cos(_F * (0.8 * v - 0.9 * np.abs(u))) - 0.4,  # boughs
    "mushroom": lambda u, v: 0.5 - np.abs(np.cos(0.6 * _F * u) + np.cos(0.6 * _F * v) - 0.7),  # round spots, hollow
    "kite": lambda u, v: np.maximum(np.cos(0.8 * _F * (u + v)), np.cos(0.8 * _F * (u - v))) - 0.75,  # crossed threads
}


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _arc(x: float, y: float, a: float, b: float, start: float = 0, stop: float = 360, n: int = 40) -> Points:
    """``n`` points on an ellipse around (x, y); angles in degrees, 0 is to the right, clockwise (y points down)."""
    t = np.radians(np.linspace(start, stop, n))
    return np.stack([x + a * np.cos(t), y + b * np.sin(t)], -1).astype(np.float32)


def _star() -> Points:
    t = np.radians(np.arange(10) * 36 - 90)
    r = np.where(np.arange(10) % 2 == 0, 0.52, 0.23)
    return np.stack([r * np.cos(t), r * np.sin(t) + 0.03], -1).astype(np.float32)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 48)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 33, (y - 2.5) / 33], -1).astype(np.float32)


# Outlines, each a union of polygons, in the unit square around (0, 0); y points down.
SILHOUETTES: dict[str, list[Points]] = {
    "ball": [_arc(0, 0, 0.46, 0.46)],
    "star": [_star()],
    "heart": [_heart()],
    "moon": [np.concatenate([_arc(0.1, 0, 0.48, 0.48, 56, 304), _arc(0.32, 0, 0.4, 0.4, 277, 83)])],
    "fish": [
        _arc(-0.1, 0, 0.38, 0.25),
        polygon((0.12, 0), (0.5, -0.27), (0.42, 0), (0.5, 0.27)),
        polygon((-0.2, -0.2), (0.02, -0.38), (0.12, -0.15)),
    ],
    "boat": [
        polygon((-0.5, 0.14), (0.5, 0.14), (0.32, 0.44), (-0.32, 0.44)),
        _box(-0.035, -0.48, 0.035, 0.2),
        polygon((0.07, -0.46), (0.44, 0.07), (0.07, 0.07)),
        polygon((-0.07, -0.36), (-0.07, 0.07), (-0.36, 0.07)),
    ],
    "house": [
        _box(-0.37, -0.06, 0.37, 0.47),
        polygon((-0.5, -0.04), (0, -0.48), (0.5, -0.04)),
        _box(0.2, -0.46, 0.33, 0),
    ],
    "tree": [
        polygon((0, -0.5), (0.25, -0.16), (-0.25, -0.16)),
        polygon((0, -0.32), (0.34, 0.1), (-0.34, 0.1)),
        polygon((0, -0.1), (0.43, 0.34), (-0.43, 0.34)),
        _box(-0.09, 0.3, 0.09, 0.5),
    ],
    "mushroom": [
        np.concatenate([_arc(0, 0, 0.49, 0.44, 180, 360), _arc(0, 0, 0.49, 0.1, 0, 180)]),
        polygon((-0.13, 0.05), (0.13, 0.05), (0.19, 0.46), (-0.19, 0.46)),
    ],
    "kite": [
        polygon((0, -0.5), (0.31, -0.16), (0, 0.3), (-0.31, -0.16)),
        polygon((0, 0.28), (0.1, 0.37), (0.02, 0.5), (-0.04, 0.48), (0.02, 0.38)),
    ],
}
assert set(SILHOUETTES) == set(KINDS)
