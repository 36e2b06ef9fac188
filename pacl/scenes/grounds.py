"""The grounds of the procedural scenes, eight textures of any size, and the brightness and noise of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pacl.scenes.captions import GROUNDS
from pacl.scenes.polygons import fill, polygon

Image = NDArray[np.uint8]
Float = NDArray[np.floating[Any]]

SIDE = 96.0  # the shorter side of an image in units, in which the lengths below are given


def draw_grounds(rng: Random, h: int, w: int, choice: Sequence[str]) -> tuple[Image, Image, list[str], str | None]:
    """Render one or two random grounds.

    Args:
        rng: random generator.
        h: height in pixels.
        w: width in pixels.
        choice: grounds that may occur.

    Returns:
        The image, uint8 [h, w, 3]; the mask with the index of the ground at each pixel, uint8 [h, w]; the names of the
        grounds, the upper or left one first; "over" or "beside" for two grounds, None for a single one.
    """
    first = rng.choice(choice)
    image = _crop(rng, first, h, w)
    mask = np.zeros((h, w), np.uint8)
    if rng.random() > 0.3 or len(choice) < 2:
        return image, mask, [first], None
    second = rng.choice([g for g in choice if g != first])
    layout = "over" if rng.random() < 0.7 else "beside"
    a, b = (rng.uniform(0.3, 0.7) for _ in range(2))
    b = a + (b - a) * 0.3  # a slight slope
    if layout == "over":  # the sky is always the upper ground
        first, second, image = (second, first, _crop(rng, second, h, w)) if second == "sky" else (first, second, image)
        edge = polygon((0, a * h), (w, b * h), (w, h), (0, h))
    else:
        edge = polygon((a * w, 0), (w, 0), (w, h), (b * w, h))
    cover = fill([edge], (h, w))
    image = np.where(cover[..., None] >= 0.5, _crop(rng, second, h, w), image)
    mask[cover >= 0.5] = 1
    return image, mask, [first, second], layout


def ground_at(mask: Image, grounds: list[str], i: int, j: int, layout: str | None) -> str:
    """The ground at pixel (i, j), which objects may hide: the most frequent visible one in its row or column."""
    if layout is None:
        return grounds[0]
    line = mask[i, :] if layout == "over" else mask[:, j]
    visible = line[line < 2]
    if visible.size == 0:
        return grounds[0]
    return grounds[round(float(visible.mean()))]


def _crop(rng: Random, ground: str, h: int, w: int) -> Image:
    """A random crop of the texture of a ground, uint8 [h, w, 3], randomly mirrored and with random brightness."""
    tile = _tile(ground, h, w)
    top, left = int(rng.random() * (h + 1)), int(rng.random() * (w + 1))
    window = tile[top : top + h, left : left + w]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(window), alpha=rng.uniform(0.9, 1.02)))


def light(rng: Random, image: Image) -> None:
    """Randomly change the brightness of an image and add noise, in place."""
    noise = _noise_tile()
    h, w = image.shape[:2]
    side = noise.shape[0] // 2
    if max(h, w) > side:
        noise = np.tile(noise, (h // side + 1, w // side + 1, 1))
    top, left = int(rng.random() * side), int(rng.random() * side)
    grain = noise[top : top + h, left : left + w]
    strength = rng.uniform(0, 0.6)
    cv2.addWeighted(image, rng.uniform(0.86, 1.03), grain, strength, rng.uniform(-10, 10) - 128 * strength, dst=image)


@lru_cache(maxsize=1)
def _noise_tile() -> Image:
    noise = np.random.default_rng(0).normal(128, 12, (512, 512, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _tile(ground: str, h: int, w: int) -> Image:
    """Texture of a ground, uint8 [2h, 2w, 3], for random crops of size (h, w)."""
    rng = np.random.default_rng(GROUNDS.index(ground))
    unit = min(h, w) / SIDE
    tile = _GROUND_PAINTERS[ground](rng, 2 * h, 2 * w, unit)
    return np.clip(tile, 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, h: int, w: int, cell: float) -> Float:
    """Smooth noise with mean 0, a standard deviation of about 1 and blobs of ``cell`` pixels, [h, w, 1]."""
    rows, columns = max(int(h / cell) + 2, 2), max(int(w / cell) + 2, 2)
    coarse = rng.normal(size=(rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC))[..., None]


def _grid(h: int, w: int, unit: float) -> tuple[Float, Float]:
    """x and y of the pixel centres in units (see `SIDE`), [1, w, 1] and [h, 1, 1]."""
    return (np.arange(w)[None, :, None] + 0.5) / unit, (np.arange(h)[:, None, None] + 0.5) / unit


def _grass(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    tile = np.array([96, 124, 58]) + 9 * _noise(rng, h, w, 14 * unit) * [1, 1, 0.6]
    tile = np.ascontiguousarray(np.clip(tile, 0, 255).astype(np.uint8))
    for _ in range(int(0.11 * h * w / unit**2)):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        lean, length = rng.normal(0, 1.4) * unit, rng.uniform(3, 7) * unit
        shade = float(rng.uniform(-32, 34))
        colour = (92 + shade, 122 + shade, 54 + 0.7 * shade)
        ends = [(int(p * 16), int(q * 16)) for p, q in ((x, y), (x + lean, y - length))]
        cv2.line(tile, ends[0], ends[1], colour, max(round(unit), 1), cv2.LINE_AA, 4)
    return tile


def _water(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    x, y = _grid(h, w, unit)
    phase = y / 7.5 + 0.35 * np.sin(x / 7 + 0.5 * np.sin(y / 11)) + 0.15 * _noise(rng, h, w, 20 * unit)
    crest = np.clip(np.sin(2 * np.pi * phase) * 1.6 - 0.7, 0, 1)
    return np.array([64, 122, 142]) + crest * [62, 60, 52] + 5 * _noise(rng, h, w, 12 * unit)


def _sand(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    grains = _noise(rng, h, w, max(0.8 * unit, 1))
    ripple = np.sin(2 * np.pi * (_grid(h, w, unit)[1] / 17 + 0.25 * _noise(rng, h, w, 24 * unit)))
    return np.array([212, 190, 146]) + grains * 13 + ripple * 6


def _snow(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    drifts = np.minimum(_noise(rng, h, w, 10 * unit), 0.5)
    sparkle = (_noise(rng, h, w, max(1.2 * unit, 1)) < -1.7) * -14.0
    return np.array([228, 235, 243]) + drifts * [18, 13, 7] + sparkle


def _bricks(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    x, y = _grid(h, w, unit)
    row = np.floor(y / 8)
    along = x + 8 * (row % 2)
    column = np.floor(along / 16)
    shades = rng.normal(0, 11, (int(row.max()) + 1, int(column.max()) + 1))
    shade = shades[row.astype(int), column.astype(int)]
    joint = np.minimum(np.minimum(y % 8, 8 - y % 8), np.minimum(along % 16, 16 - along % 16))
    mortar = np.clip((0.85 - joint) * unit + 0.5, 0, 1)
    brick = np.array([148, 88, 74]) + shade + 5 * _noise(rng, h, w, 2 * unit)
    return brick + (np.array([196, 188, 178]) - brick) * mortar


def _wood(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    x, y = _grid(h, w, unit)
    plank = np.floor(y / 19).astype(int)
    shade = rng.normal(0, 9, int(plank.max()) + 1)[plank]
    start = rng.uniform(0, 10, int(plank.max()) + 1)[plank]
    grain = np.sin(2 * np.pi * (y / 3.6 + start + 0.5 * np.sin((x + 40 * start) / 17)))
    gap = np.clip((0.8 - np.minimum(y % 19, 19 - y % 19)) * unit + 0.5, 0, 1)
    return np.array([150, 108, 70]) + shade + grain * [11, 10, 8] - gap * 60 + 0 * x


def _sky(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    cloud = 0.7 * _noise(rng, h, w, 26 * unit) + 0.4 * _noise(rng, h, w, 9 * unit)
    return np.array([150, 200, 238]) + np.clip(cloud * 1.2 - 0.5, 0, 1) * [92, 46, 12]


def _road(rng: np.random.Generator, h: int, w: int, unit: float) -> Float:
    stones = _noise(rng, h, w, max(1.2 * unit, 1))
    return np.array([142, 142, 147]) + stones * 15 + 6 * _noise(rng, h, w, 20 * unit)


_GROUND_PAINTERS: dict[str, Callable[[np.random.Generator, int, int, float], Float]] = {
    "grass": _grass,
    "water": _water,
    "sand": _sand,
    "snow": _snow,
    "bricks": _bricks,
    "wood": _wood,
    "sky": _sky,
    "road": _road,
}
