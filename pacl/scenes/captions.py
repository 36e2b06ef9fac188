"""Captions of the procedural scenes, and their vocabulary.

Everything that a caption says is true, but it may omit objects. Captions use only the words in the tables below.
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
"""(colour, kind) pairs that occur in no training image and no training caption: 10 of 80, one for each kind and one or
two for each colour."""

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
    """All words in nested tuples and dicts of strings, without placeholders such as ``{a}``."""
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
"""All words that occur in captions and prompts, sorted, without `PUNCTUATION`."""
PUNCTUATION = (",", ".")


@dataclass(frozen=True)
class SceneObject:
    """What captions say about an object.

    Attributes:
        colour: one of `COLOURS`.
        kind: one of `KINDS`.
        texture: one of `TEXTURES`.
        size: side of its square outline, as a fraction of the shorter side of the image.
        x: centre, in the same unit, from the left.
        y: centre, in the same unit, from the top.
        ground: the ground at its centre.
        covers: indices of the objects that it partly hides.
    """

    colour: str
    kind: str
    texture: str
    size: float
    x: float
    y: float
    ground: str
    covers: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The prompt of the object, see `object_name`."""
        return object_name(self.colour, self.kind)


def with_article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def object_name(colour: str, kind: str) -> str:
    """The prompt of an object: ``"a red star"``, ``"an orange boat"``."""
    return with_article(f"{colour} {kind}")


OBJECT_NAMES: tuple[str, ...] = tuple(object_name(*pair) for pair in ALL_PAIRS)


def describe(
    rng: Random, objects: Sequence[SceneObject], grounds: Sequence[str], layout: str | None
) -> tuple[str, list[str]]:
    """Generate a random caption of a scene.

    Args:
        rng: random generator.
        objects: the objects of the scene, in the order in which they are drawn over each other.
        grounds: one ground, or two, of which the upper or left one is first.
        layout: ``"over"`` or ``"beside"`` for two grounds, else None.

    Returns:
        The caption, and the names that it mentions: first objects whose colour it mentions, such as "a red star", then
        grounds.
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
        both = rng.choice(_TWO_GROUNDS[layout or "over"]).format(first=grounds[0], second=grounds[1])
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
    """Describe an object.

    Args:
        rng: random generator.
        obj: the object.
        colourless: probability that the colour is omitted.

    Returns:
        A description such as "small striped red star", and a list with the name of the object if the colour is
        mentioned.
    """
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
    """Join the descriptions of objects, often with the spatial relation between the first two."""
    if len(parts) == 1:
        return parts[0]
    if rng.random() < 0.6:
        relation = rng.choice(_RELATIONS[_relation(rng, order[0], order[1], objects)])
        parts = [f"{parts[0]} {relation} {parts[1]}", *parts[2:]]
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + rng.choice(_JOINS) + parts[-1]


def _relation(rng: Random, i: int, j: int, objects: Sequence[SceneObject]) -> str:
    """A key of `_RELATIONS` that is true of object i relative to object j."""
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
