"""Captions of the procedural scenes, and their vocabulary.

A caption is true of its scene; it may leave objects out. All words of all captions are in the tables below.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

KINDS = ("ball", "star", "heart", "moon", "fish", "boat", "house", "tree", "mushroom", "kite")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
TEXTURES = ("plain", "striped", "dotted", "checkered")
GROUNDS = ("grass", "water", "sand", "snow", "bricks", "wood", "sky", "road")

HELD_OUT: frozenset[tuple[str, str]] = frozenset((COLOURS[i % len(COLOURS)], kind) for i, kind in enumerate(KINDS))
"""(colour, kind) pairs that are held out of training images and captions: 10 of 80, with every kind once and every
colour once or twice."""

ALL_PAIRS: tuple[tuple[str, str], ...] = tuple(itertools.product(COLOURS, KINDS))
SEEN_PAIRS: tuple[tuple[str, str], ...] = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT)

_AROUND = ("", "", "", "", "a photo of ", "a picture of ", "an image of ", "a drawing of ", "there is ")
_ONE_OBJECT = (  # with the seven prompt templates of the PACL paper
    "itap of {a}.",
    "a bad photo of {the}.",
    "a origami {bare}.",
    "{a} in a video game.",
    "art of {the}.",
    "a photo of {a}.",
    "a photo of {the}.",
    "a painting of {a}.",
    "{bare}",
    "{a}",
)
_LARGE, _SMALL = ("large", "big"), ("small", "tiny")
_ON = {
    "grass": ("on grass", "on the grass", "in the grass"),
    "water": ("on water", "on the water", "in the water"),
    "sand": ("on sand", "on the sand"),
    "snow": ("on snow", "on the snow", "in the snow"),
    "bricks": ("on bricks", "in front of bricks", "in front of the bricks"),
    "wood": ("on wood", "on the wood", "in front of wood"),
    "sky": ("in the sky", "in front of the sky", "over the sky"),
    "road": ("on a road", "on the road", "over the road"),
}
_GROUND_FIRST = ("{ground} with {objects}", "{ground} behind {objects}", "{objects} over {ground}")
_TWO_GROUNDS = {
    "over": ("{first} above {second}", "{second} below {first}", "{first} and {second}"),
    "beside": ("{first} left of {second}", "{second} right of {first}", "{second} and {first}"),
}
_RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "front": ("in front of", "covering"),
    "behind": ("behind",),
    "any": ("and", "with", "near", "next to"),
}
_JOINS = (" and ", ", ", " with ")
_ARTICLES = ("a", "an", "the")


def _words(table: object) -> set[str]:
    """All words of nested tables of strings, without fields such as ``{a}``."""
    if isinstance(table, str):
        return set(re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", table)))
    if isinstance(table, dict):
        table = list(table.values())
    assert isinstance(table, Sequence)
    return set().union(*(_words(entry) for entry in table))


VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        _words(
            (
                *(KINDS, COLOURS, TEXTURES, GROUNDS, _ARTICLES),
                *(_AROUND, _ONE_OBJECT, _LARGE, _SMALL, _ON, _GROUND_FIRST, _TWO_GROUNDS, _RELATIONS, _JOINS),
            )
        )
    )
)
"""Every word of every caption and prompt, sorted, without `PUNCTUATION`."""
PUNCTUATION = (",", ".")


@dataclass(frozen=True)
class SceneObject:
    """An object as captions describe it; lengths as shares of the shorter side of the image, y downwards."""

    colour: str
    kind: str
    texture: str
    size: float
    x: float
    y: float
    ground: str
    covers: tuple[int, ...] = ()  # indices of the objects that it partly hides

    @property
    def name(self) -> str:
        return object_name(self.colour, self.kind)


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def object_name(colour: str, kind: str) -> str:
    """The prompt of an object: ``"a red star"``, ``"an orange boat"``."""
    return with_article(f"{colour} {kind}")


OBJECT_NAMES: tuple[str, ...] = tuple(object_name(*pair) for pair in ALL_PAIRS)
HELD_OUT_NAMES: tuple[str, ...] = tuple(object_name(*pair) for pair in ALL_PAIRS if pair in HELD_OUT)


def describe(
    rng: Random, objects: Sequence[SceneObject], grounds: Sequence[str], split: str | None
) -> tuple[str, list[str]]:
    """A caption that is true of a scene, and the names that it mentions.

    Args:
        rng: random generator.
        objects: of the scene, the lowest first.
        grounds: one ground, or two, the upper or left one first.
        split: ``"over"`` or ``"beside"`` for two grounds, else None.

    Returns:
        The caption, and the names in it: ``"a <colour> <kind>"`` of objects that it names with their colour, then
        grounds, each once.
    """
    order = list(range(len(objects)))
    rng.shuffle(order)
    if len(order) > 1 and rng.random() < 0.12:
        order.pop()
    choice = rng.random()
    if len(objects) == 1 and choice < 0.3:
        template = rng.choice(_ONE_OBJECT)
        words, phrases = _mention(rng, objects[0], colourless=0.1)
        caption = template.format(a=with_article(words), the=f"the {words}", bare=words)
        return caption, phrases

    phrases = []
    parts = []
    for i in order:
        words, named = _mention(rng, objects[i], colourless=0.03)
        phrases += named
        parts.append(f"the {words}" if rng.random() < 0.12 else with_article(words))
    listing = _listing(rng, parts, order, objects)
    around = rng.choice(_AROUND)

    if choice < 0.42:  # objects only
        caption = around + listing
    elif len(grounds) == 2 and choice < 0.8:
        both = rng.choice(_TWO_GROUNDS[split or "over"]).format(first=grounds[0], second=grounds[1])
        caption = around + rng.choice(_GROUND_FIRST).format(ground=both, objects=listing)
        phrases += grounds
    elif len(grounds) == 1 and choice < 0.6:
        caption = around + rng.choice(_GROUND_FIRST).format(ground=grounds[0], objects=listing)
        phrases += grounds
    else:  # the ground of the last object
        ground = objects[order[-1]].ground
        caption = around + f"{listing} {rng.choice(_ON[ground])}"
        phrases.append(ground)
    if rng.random() < 0.2:
        caption += "."
    return caption, phrases


def _mention(rng: Random, obj: SceneObject, colourless: float) -> tuple[str, list[str]]:
    """``"small striped red star"``, and its name if the colour is mentioned."""
    words = []
    if rng.random() < 0.15:
        if obj.size >= 0.52:
            words.append(rng.choice(_LARGE))
        elif obj.size <= 0.37:
            words.append(rng.choice(_SMALL))
    if rng.random() < 0.2:
        words.append(obj.texture)
    if rng.random() < colourless:
        return " ".join([*words, obj.kind]), []
    return " ".join([*words, obj.colour, obj.kind]), [obj.name]


def _listing(rng: Random, parts: list[str], order: list[int], objects: Sequence[SceneObject]) -> str:
    """A list of the objects, often with the spatial relation of the first two."""
    if len(parts) == 1:
        return parts[0]
    if rng.random() < 0.6:
        relation = rng.choice(_RELATIONS[_relation(rng, order[0], order[1], objects)])
        parts = [f"{parts[0]} {relation} {parts[1]}", *parts[2:]]
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + rng.choice(_JOINS) + parts[-1]


def _relation(rng: Random, i: int, j: int, objects: Sequence[SceneObject]) -> str:
    a, b = objects[i], objects[j]
    if j in a.covers and rng.random() < 0.7:
        return "front"
    if i in b.covers and rng.random() < 0.7:
        return "behind"
    dx, dy = a.x - b.x, a.y - b.y
    if max(abs(dx), abs(dy)) < 0.2 or rng.random() < 0.1:
        return "any"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"
