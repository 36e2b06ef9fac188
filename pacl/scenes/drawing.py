"""Procedural scenes: coloured objects on textured grounds, with a caption and an exact mask.

A scene depends only on its arguments, such as split, seed and index. It can be rendered at any size, since all lengths
are relative to the shorter side of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from pacl.errors import ArgumentError
from pacl.scenes.captions import (
    ALL_PAIRS,
    COLOURS,
    GROUNDS,
    HELD_OUT,
    SEEN_PAIRS,
    TEXTURES,
    SceneObject,
    describe,
)
from pacl.scenes.grounds import Image, draw_grounds, ground_at, light
from pacl.scenes.objects import Shape, paint, place

SPLITS = ("train", "val", "test")
PAIRS = {"seen": SEEN_PAIRS, "held_out": tuple(sorted(HELD_OUT)), "all": ALL_PAIRS}
MIN_VISIBLE = 0.4  # smallest share of an object's area that must stay visible
SIZES = (0.3, 0.6)  # range of object sizes, as fractions of the shorter side of the image
CROWDED_SIZES = (0.28, 0.48)  # the same for scenes with 3 or 4 objects
MIN_GROUND = 0.06  # smallest share of the image that each ground must cover


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        image: RGB, uint8 [H, W, 3].
        mask: index in `names` of each pixel, uint8 [H, W]. There is no background class, since grounds have names.
        names: prompts for everything in the image, without duplicates: its one or two grounds, then its objects, such
            as "a red star", in the order in which they are drawn over each other.
        caption: an English sentence about the scene; it may omit objects.
        phrases: the names that the caption mentions.
        objects: descriptions of the objects, in the order of `names`.
        layout: position of two grounds: "over" (one above the other) or "beside"; None for a single ground.
    """

    image: Image
    mask: Image
    names: list[str]
    caption: str
    phrases: list[str]
    objects: list[SceneObject]
    layout: str | None = None

    def describe(self, rng: Random) -> tuple[str, list[str]]:
        """A new random caption of this scene, and the names that it mentions; see `pacl.scenes.captions.describe`."""
        return describe(rng, self.objects, self.names[: len(self.names) - len(self.objects)], self.layout)


def scene(
    split: str,
    index: int,
    *,
    seed: int = 0,
    size: int | tuple[int, int] = 64,
    pairs: str = "seen",
    n_objects: int | None = None,
) -> Scene:
    """Render a scene of a split. The same arguments give the same scene.

    Args:
        split: "train", "val" or "test"; scenes of different splits are different.
        index: index of the scene, from 0.
        seed: random seed of the split.
        size: side or (H, W) in pixels.
        pairs: (colour, kind) pairs that may occur: "seen", "held_out" or "all"; for "train" only "seen".
        n_objects: number of objects; None is a random number from 1 to 4.

    Raises:
        ArgumentError: an invalid ``split`` or ``pairs``.
    """
    if split not in SPLITS:
        raise ArgumentError("split", split, f"must be one of {', '.join(SPLITS)}")
    if split == "train" and pairs != "seen":
        raise ArgumentError("pairs", pairs, "training scenes contain seen pairs only")
    return draw_scene(Random(f"{split}/{pairs}/{seed}/{index}"), size=size, pairs=pairs, n_objects=n_objects)


def draw_scene(
    rng: Random | int,
    *,
    size: int | tuple[int, int] = 64,
    pairs: str | Sequence[tuple[str, str]] = "seen",
    n_objects: int | None = None,
    grounds: Sequence[str] = GROUNDS,
) -> Scene:
    """Render a random scene.

    Args:
        rng: random generator, or its seed.
        size: side or (H, W) in pixels.
        pairs: (colour, kind) pairs that may occur: a key of `PAIRS`, or the pairs themselves.
        n_objects: number of objects; None is a random number from 1 to 4.
        grounds: grounds that may occur.

    Raises:
        ArgumentError: an unknown key ``pairs``.
    """
    if isinstance(pairs, str):
        if pairs not in PAIRS:
            raise ArgumentError("pairs", pairs, f"must be one of {', '.join(PAIRS)}")
        pairs = PAIRS[pairs]
    rng = Random(rng) if isinstance(rng, int) else rng
    h, w = (size, size) if isinstance(size, int) else size
    while True:  # the first attempt nearly always succeeds
        rendered = _attempt(rng, h, w, pairs, n_objects, grounds)
        if rendered is not None:
            return rendered


def similar_scenes(block: int, count: int, *, size: int | tuple[int, int] = 64, seed: int = 0) -> list[Scene]:
    """Render a block of training scenes that often have the same colours and the same ground.

    They are hard negatives for contrastive training: random scenes can be distinguished by their colours, but these
    scenes only by the kinds of their objects.

    Args:
        block: index of the block.
        count: number of scenes.
        size: side or (H, W) in pixels.
        seed: random seed.
    """
    rng = Random(f"train/alike/{seed}/{block}")
    colours = COLOURS if rng.random() < 0.3 else rng.sample(COLOURS, rng.choice((1, 1, 2)))
    grounds = GROUNDS if rng.random() < 0.3 else rng.sample(GROUNDS, rng.choice((1, 2)))
    pairs = [pair for pair in SEEN_PAIRS if pair[0] in colours]
    return [draw_scene(rng, size=size, pairs=pairs, grounds=grounds) for _ in range(count)]


def _attempt(
    rng: Random, h: int, w: int, pairs: Sequence[tuple[str, str]], n_objects: int | None, choice: Sequence[str]
) -> Scene | None:
    """Render a scene, or return None if the objects found no place or hide too much of a ground."""
    image, mask, grounds, layout = draw_grounds(rng, h, w, choice)
    wanted = n_objects or rng.choices((1, 2, 3, 4), (34, 33, 23, 10))[0]
    names = list(grounds)
    objects: list[SceneObject] = []
    areas: list[int] = []  # pixels of each object, including hidden parts
    for colour, kind in rng.sample(pairs, wanted):
        for _ in range(8):
            shape = place(rng, kind, h, w, SIZES if wanted < 3 else CROWDED_SIZES)
            fits = _fits(shape, mask, areas, len(grounds))
            if fits is not None:
                break
        else:
            return None
        area, hidden = fits
        texture = TEXTURES[0] if rng.random() < 0.4 else rng.choice(TEXTURES[1:])
        i, j = min(max(int(shape.cy), 0), h - 1), min(max(int(shape.cx), 0), w - 1)
        below = ground_at(mask, grounds, i, j, layout)
        paint(rng, image, shape, colour, texture)
        mask[shape.top : shape.bottom, shape.left : shape.right][shape.cover >= 0.5] = len(names)
        unit = min(h, w)
        objects.append(
            SceneObject(colour, kind, texture, shape.size / unit, shape.cx / unit, shape.cy / unit, below, hidden)
        )
        areas.append(area)
        names.append(objects[-1].name)
    counts = np.bincount(mask.ravel(), minlength=len(names))
    if min(counts[: len(grounds)]) < MIN_GROUND * h * w:
        return None
    light(rng, image)
    caption, phrases = describe(rng, objects, grounds, layout)
    return Scene(image, mask, names, caption, phrases, objects, layout)


def _fits(shape: Shape, mask: Image, areas: list[int], first: int) -> tuple[int, tuple[int, ...]] | None:
    """Check whether all objects below a new one stay visible enough.

    Args:
        shape: the new object.
        mask: mask of the scene before the object is drawn.
        areas: areas of the objects so far, including hidden parts.
        first: value of the first object in the mask.

    Returns:
        The area of the new object in pixels and the indices of the objects that it partly hides; None if it is outside
        the image or hides too much.
    """
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


class SceneDataset:
    """The scenes of a split as a map-style data set.

    Args:
        split, size, seed, pairs, n_objects: see `scene`.
        length: number of scenes.
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
