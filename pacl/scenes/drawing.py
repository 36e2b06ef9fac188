"""Procedural scenes: coloured things on textured grounds, with a true caption and the exact mask.

A scene is a pure function of (split, seed, index), whatever the number of workers or the order in which scenes
are asked for, and it can be drawn at any size: everything is measured in units of 1/96 of the shorter side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from pacl.data.polygons import Points, fill, polygon
from pacl.scenes.captions import (
    ALL_PAIRS,
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    SEEN_PAIRS,
    TEXTURES,
    Thing,
    describe,
)
from pacl.scenes.grounds import Float, Image, draw_grounds, ground_at, light

SPLITS = ("train", "val", "test")
PAIRS = {"seen": SEEN_PAIRS, "held_out": tuple(sorted(HELD_OUT)), "all": ALL_PAIRS}
MIN_VISIBLE = 0.4  # of an object's own area; what is hidden more than that is placed elsewhere
SIZES, CROWDED_SIZES = (0.3, 0.6), (0.28, 0.48)  # of objects, in shorter sides; the latter for three or more
MIN_GROUND = 0.06  # of the picture, for each of two grounds
EMPTY: Points = np.zeros((0, 2), np.float32)

# The colour itself, and the shade that stripes, dots and squares have.
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


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        mask: uint8 [H, W]: every pixel's position in `names` (no background: grounds have names).
        names: Prompts of what is in the picture, each once: its one or two grounds, then its objects from the
            lowest to the uppermost ("a red star").
        caption: A true English sentence; it may leave things out.
        phrases: The names that the caption mentions.
        things: The objects in detail, in the order of `names`.
        layout: How two grounds are divided: "over" or "beside" each other; None for one ground.
    """

    image: Image
    mask: Image
    names: list[str]
    caption: str
    phrases: list[str]
    things: list[Thing]
    layout: str | None = None

    def describe(self, rng: Random) -> tuple[str, list[str]]:
        """Another caption of the same scene, and the names that it mentions."""
        return describe(rng, self.things, self.names[: len(self.names) - len(self.things)], self.layout)


def scene(
    split: str,
    index: int,
    *,
    seed: int = 0,
    size: int | tuple[int, int] = 64,
    pairs: str = "seen",
    n_objects: int | None = None,
) -> Scene:
    """Scene number `index` of a split: the same one for the same arguments, always.

    Args:
        split: "train", "val" or "test"; their scenes are drawn from different random streams.
        index: Which one, from 0.
        seed: Another seed is another world of scenes.
        size: Side or (H, W) in pixels.
        pairs: Which (colour, kind) pairs may occur: "seen", "held_out" (val and test only) or "all".
        n_objects: So many objects; None draws 1 to 4.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    if split == "train" and pairs != "seen":
        raise ValueError(f"pairs {pairs!r}: training scenes hold seen pairs only")
    return draw_scene(Random(f"{split}/{pairs}/{seed}/{index}"), size=size, pairs=pairs, n_objects=n_objects)


def draw_scene(
    rng: Random | int,
    *,
    size: int | tuple[int, int] = 64,
    pairs: str | Sequence[tuple[str, str]] = "seen",
    n_objects: int | None = None,
    grounds: Sequence[str] = GROUNDS,
) -> Scene:
    """Draw one scene with the given source of chance.

    As `scene`, but `pairs` may also be a choice of (colour, kind) pairs, and `grounds` one of grounds.
    """
    if isinstance(pairs, str):
        if pairs not in PAIRS:
            raise ValueError(f"pairs {pairs!r}: choose one of {', '.join(PAIRS)}")
        pairs = PAIRS[pairs]
    rng = Random(rng) if isinstance(rng, int) else rng
    h, w = (size, size) if isinstance(size, int) else size
    while True:  # nearly always the first try holds
        drawn = _try(rng, h, w, pairs, n_objects, grounds)
        if drawn is not None:
            return drawn


def alike_scenes(block: int, count: int, *, size: int | tuple[int, int] = 64, seed: int = 0) -> list[Scene]:
    """A block of training scenes that often share their colours and their ground.

    Who must tell such scenes apart has to look at the kinds of things, where colours alone would tell scenes
    drawn at random apart: hard negatives, for contrastive training from random weights.
    """
    rng = Random(f"train/alike/{seed}/{block}")
    colours = COLOURS if rng.random() < 0.3 else rng.sample(COLOURS, rng.choice((1, 1, 2)))
    grounds = GROUNDS if rng.random() < 0.3 else rng.sample(GROUNDS, rng.choice((1, 2)))
    pairs = [pair for pair in SEEN_PAIRS if pair[0] in colours]
    return [draw_scene(rng, size=size, pairs=pairs, grounds=grounds) for _ in range(count)]


def _try(
    rng: Random, h: int, w: int, pairs: Sequence[tuple[str, str]], n_objects: int | None, choice: Sequence[str]
) -> Scene | None:
    image, mask, grounds, split = draw_grounds(rng, h, w, choice)
    wanted = n_objects or rng.choices((1, 2, 3, 4), (34, 33, 23, 10))[0]
    names = list(grounds)
    things: list[Thing] = []
    areas: list[int] = []  # of each object, hidden parts included
    for colour, kind in rng.sample(pairs, wanted):
        for _ in range(8):
            shape = _place(rng, kind, h, w, SIZES if wanted < 3 else CROWDED_SIZES)
            fits = _fits(shape, mask, areas, len(grounds))
            if fits is not None:
                break
        else:
            return None
        area, hidden = fits
        texture = TEXTURES[0] if rng.random() < 0.4 else rng.choice(TEXTURES[1:])
        i, j = min(max(int(shape.cy), 0), h - 1), min(max(int(shape.cx), 0), w - 1)
        below = ground_at(mask, grounds, i, j, split)
        _paint(rng, image, shape, colour, texture)
        mask[shape.top : shape.bottom, shape.left : shape.right][shape.cover >= 0.5] = len(names)
        unit = min(h, w)
        things.append(Thing(colour, kind, texture, shape.size / unit, shape.cx / unit, shape.cy / unit, below, hidden))
        areas.append(area)
        names.append(things[-1].name)
    counts = np.bincount(mask.ravel(), minlength=len(names))
    if min(counts[: len(grounds)]) < MIN_GROUND * h * w:
        return None
    light(rng, image)
    caption, phrases = describe(rng, things, grounds, split)
    return Scene(image, mask, names, caption, phrases, things, split)


# ---------------------------------------------------------------- objects


@dataclass
class _Shape:
    """An object's outline on the canvas; cover is float32 in [0, 1] over its box."""

    kind: str
    size: float  # px, the side of the square that the outline fills
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


def _place(rng: Random, kind: str, h: int, w: int, sizes: tuple[float, float]) -> _Shape:
    """Somewhere, at some size and slight rotation; at most about a tenth of it outside the picture."""
    size = max(rng.uniform(*sizes), rng.uniform(*sizes)) * min(h, w)  # the larger more often
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
    return _Shape(kind, size, cx, cy, angle, top, left, cover)


def _fits(shape: _Shape, mask: Image, areas: list[int], first: int) -> tuple[int, tuple[int, ...]] | None:
    """(area, objects it lies on) if nothing below it gets hidden too much, else None."""
    inside = shape.cover >= 0.5
    area = int(np.count_nonzero(inside))
    if area == 0:
        return None
    if not areas:
        return area, ()
    below = np.bincount(mask[shape.top : shape.bottom, shape.left : shape.right][inside], minlength=first)
    covered: list[int] = []
    for number in np.flatnonzero(below[first:]):
        k = int(number)
        left = int(np.count_nonzero(mask == first + k)) - int(below[first + k])
        if left < MIN_VISIBLE * areas[k]:
            return None
        covered.append(k)
    return area, tuple(covered)


def _paint(rng: Random, image: Image, shape: _Shape, colour: str, texture: str) -> None:
    """Fill a shape with its colour, the texture in a shade of it, and the markings of its kind in light ink."""
    h, w = shape.cover.shape
    light = rng.uniform(0.9, 1.08)
    base, shade = (np.array([c * light + rng.uniform(-8, 8) for c in rgb], np.float32) for rgb in RGB[colour])
    cos, sin = math.cos(shape.angle) / shape.size, math.sin(shape.angle) / shape.size
    x = np.arange(w, dtype=np.float32) + np.float32(shape.left + 0.5 - shape.cx)
    y = (np.arange(h, dtype=np.float32) + np.float32(shape.top + 0.5 - shape.cy))[:, None]
    u, v = x * cos + y * sin, y * cos - x * sin  # the object's own coordinates, -0.5 .. 0.5
    sharp = 0.08 * shape.size  # edges of the pattern are about a pixel wide
    paint = base + (shade - base) * _ink(_TEXTURE_WAVES[texture](rng, u, v), sharp)
    paint += (INK - paint) * (INK_STRENGTH * _ink(_MARKINGS[shape.kind](u, v), sharp))
    patch = image[shape.top : shape.bottom, shape.left : shape.right]
    paint -= patch
    paint *= shape.cover[..., None]
    paint += patch
    np.copyto(patch, np.clip(paint + 0.5, 0, 255), casting="unsafe")


def _ink(wave: Float, sharp: float) -> Float:
    """A wave around 0 -> where it is positive, anti-aliased: [h, w, 1] in [0, 1]."""
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

# What tells a kind apart from near by, as scales tell a fish: every patch of an object carries its markings, so that a
# small tower learns kinds and not only outlines. Functions of the object's own coordinates; ink where positive.
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
    """Part of an ellipse's outline, in degrees from the right, clockwise (y downwards)."""
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


# Outlines, each a union of polygons, in the unit square around (0, 0), y downwards.
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


# ---------------------------------------------------------------- data sets


class SceneDataset:
    """A split as a map-style data set (torch's `DataLoader` takes it as it is).

    Args:
        split: "train", "val" or "test".
        length: Number of scenes.
        size: Side or (H, W) in pixels.
        seed: Another seed is another world of scenes.
        pairs: "seen", "held_out" or "all".
        n_objects: So many objects in each scene; None draws 1 to 4.
    """

    def __init__(
        self,
        split: str = "train",
        length: int = 10_000,
        size: int | tuple[int, int] = 64,
        seed: int = 0,
        pairs: str = "seen",
        n_objects: int | None = None,
    ) -> None:
        self.split, self.length, self.size, self.seed = split, length, size, seed
        self.pairs, self.n_objects = pairs, n_objects

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return scene(self.split, index, seed=self.seed, size=self.size, pairs=self.pairs, n_objects=self.n_objects)

    def __iter__(self) -> Iterator[Scene]:
        return (self[i] for i in range(self.length))
