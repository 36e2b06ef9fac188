"""Procedural scenes: coloured objects on textured grounds, with a true caption and the exact mask.

A scene is a pure function of (split, seed, index) and can be drawn at any size: lengths are in units of 1/96 of the
shorter side.
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
MIN_VISIBLE = 0.4  # least visible share of an object's area
SIZES, CROWDED_SIZES = (
    (0.3, 0.6),
    (0.28, 0.48),
)  # shares of the shorter side; the latter for 3 or 4 objects
MIN_GROUND = 0.06  # least share of the image that each of two grounds covers


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        mask: uint8 [H, W], for each pixel an index of `names`. There is no background: grounds have names.
        names: prompts of what the image shows, each once: its one or two grounds, then its objects from the lowest
            to the uppermost ("a red star").
        caption: a true English sentence; it may leave objects out.
        phrases: the names that the caption mentions.
        objects: the objects in detail, in the order of `names`.
        layout: how two grounds are divided: "over" or "beside" each other; None for one ground.
    """

    image: Image
    mask: Image
    names: list[str]
    caption: str
    phrases: list[str]
    objects: list[SceneObject]
    layout: str | None = None

    def describe(self, rng: Random) -> tuple[str, list[str]]:
        """Another caption of the same scene, and the names that it mentions."""
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
    """Scene number `index` of a split, a pure function of the arguments.

    Args:
        split: "train", "val" or "test"; each has its own random stream.
        index: from 0.
        seed: of all scenes.
        size: side or (H, W) in pixels.
        pairs: (colour, kind) pairs that may occur: "seen", "held_out" (val and test only) or "all".
        n_objects: number of objects; None draws 1 to 4.

    Raises:
        ArgumentError: an unknown split or choice of pairs, or pairs that are not for training.
    """
    if split not in SPLITS:
        raise ArgumentError("split", split, f"must be one of {', '.join(SPLITS)}")
    if split == "train" and pairs != "seen":
        raise ArgumentError("pairs", pairs, "training scenes hold seen pairs only")
    return draw_scene(Random(f"{split}/{pairs}/{seed}/{index}"), size=size, pairs=pairs, n_objects=n_objects)


def draw_scene(
    rng: Random | int,
    *,
    size: int | tuple[int, int] = 64,
    pairs: str | Sequence[tuple[str, str]] = "seen",
    n_objects: int | None = None,
    grounds: Sequence[str] = GROUNDS,
) -> Scene:
    """Draw one scene with a random generator.

    As `scene`, but `pairs` may also be a sequence of (colour, kind) pairs, and `grounds` selects grounds.
    """
    if isinstance(pairs, str):
        if pairs not in PAIRS:
            raise ArgumentError("pairs", pairs, f"must be one of {', '.join(PAIRS)}")
        pairs = PAIRS[pairs]
    rng = Random(rng) if isinstance(rng, int) else rng
    h, w = (size, size) if isinstance(size, int) else size
    while True:  # the first attempt nearly always succeeds
        drawn = _attempt(rng, h, w, pairs, n_objects, grounds)
        if drawn is not None:
            return drawn


def similar_scenes(block: int, count: int, *, size: int | tuple[int, int] = 64, seed: int = 0) -> list[Scene]:
    """A block of training scenes that often share their colours and their ground.

    They are hard negatives for contrastive training: random scenes are told apart by their colours, these by the kinds
    of objects only.
    """
    rng = Random(f"train/alike/{seed}/{block}")
    colours = COLOURS if rng.random() < 0.3 else rng.sample(COLOURS, rng.choice((1, 1, 2)))
    grounds = GROUNDS if rng.random() < 0.3 else rng.sample(GROUNDS, rng.choice((1, 2)))
    pairs = [pair for pair in SEEN_PAIRS if pair[0] in colours]
    return [draw_scene(rng, size=size, pairs=pairs, grounds=grounds) for _ in range(count)]


def _attempt(
    rng: Random, h: int, w: int, pairs: Sequence[tuple[str, str]], n_objects: int | None, choice: Sequence[str]
) -> Scene | None:
    image, mask, grounds, split = draw_grounds(rng, h, w, choice)
    wanted = n_objects or rng.choices((1, 2, 3, 4), (34, 33, 23, 10))[0]
    names = list(grounds)
    objects: list[SceneObject] = []
    areas: list[int] = []  # of each object, with its hidden parts
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
        below = ground_at(mask, grounds, i, j, split)
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
    caption, phrases = describe(rng, objects, grounds, split)
    return Scene(image, mask, names, caption, phrases, objects, split)


def _fits(shape: Shape, mask: Image, areas: list[int], first: int) -> tuple[int, tuple[int, ...]] | None:
    """(area, objects it covers) if all objects below it stay visible enough, else None."""
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
        split: "train", "val" or "test".
        length: number of scenes.
        size: side or (H, W) in pixels.
        seed: of all scenes.
        pairs: "seen", "held_out" or "all".
        n_objects: number of objects in each scene; None draws 1 to 4.
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
