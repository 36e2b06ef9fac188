"""What a scene says: the words of the procedural scenes and the captions made of them.

Every word that a caption can hold stands in one of the tables below, so `VOCABULARY` is read off them. A
caption is always true of its scene; it may leave things out.
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
"""(colour, kind) pairs that no training picture or caption holds: a diagonal through the table, so that every
kind is in it once and every colour once or twice (10 of 80)."""

ALL_PAIRS: tuple[tuple[str, str], ...] = tuple(itertools.product(COLOURS, KINDS))
SEEN_PAIRS: tuple[tuple[str, str], ...] = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT)

# Object and ground go into {}; each line is a way to say the same thing.
_AROUND = ("", "", "", "", "a photo of ", "a picture of ", "an image of ", "a drawing of ", "there is ")
_ONE_OBJECT = (  # among them the seven prompt templates that the PACL paper uses
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
_GROUND_FIRST = ("{ground} with {things}", "{ground} behind {things}", "{things} over {ground}")
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
    """All words of nested tables of strings, fields such as ``{a}`` left out."""
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
"""Every word of every caption and prompt, sorted; punctuation (`PUNCTUATION`) comes on top."""
PUNCTUATION = (",", ".")


@dataclass(frozen=True)
class Thing:
    """One object as a caption sees it; lengths in units of the picture's shorter side, y downwards."""

    colour: str
    kind: str
    texture: str
    size: float
    x: float
    y: float
    ground: str
    covers: tuple[int, ...] = ()  # positions, in the scene's list, of the things it lies on top of

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


def describe(rng: Random, things: Sequence[Thing], grounds: Sequence[str], split: str | None) -> tuple[str, list[str]]:
    """A caption that is true of a scene, and the names that it mentions.

    Args:
        rng: Source of chance.
        things: The scene's objects, the lowest first.
        grounds: One ground, or two of which the first is the upper or the left one.
        split: ``"over"`` or ``"beside"`` for two grounds, else None.

    Returns:
        The caption, and its phrases: ``"a <colour> <kind>"`` of the objects it names with their colour, then
        its grounds, each once.
    """
    order = list(range(len(things)))
    rng.shuffle(order)
    if len(order) > 1 and rng.random() < 0.12:
        order.pop()
    chance = rng.random()
    if len(things) == 1 and chance < 0.3:
        template = rng.choice(_ONE_OBJECT)
        words, phrases = _mention(rng, things[0], colourless=0.1)
        caption = template.format(a=with_article(words), the=f"the {words}", bare=words)
        return caption, phrases

    phrases = []
    parts = []
    for i in order:
        words, named = _mention(rng, things[i], colourless=0.03)
        phrases += named
        parts.append(f"the {words}" if rng.random() < 0.12 else with_article(words))
    listing = _listing(rng, parts, order, things)
    around = rng.choice(_AROUND)

    if chance < 0.42:  # objects only
        caption = around + listing
    elif len(grounds) == 2 and chance < 0.8:
        both = rng.choice(_TWO_GROUNDS[split or "over"]).format(first=grounds[0], second=grounds[1])
        caption = around + rng.choice(_GROUND_FIRST).format(ground=both, things=listing)
        phrases += grounds
    elif len(grounds) == 1 and chance < 0.6:
        caption = around + rng.choice(_GROUND_FIRST).format(ground=grounds[0], things=listing)
        phrases += grounds
    else:  # where the last one named stands
        ground = things[order[-1]].ground
        caption = around + f"{listing} {rng.choice(_ON[ground])}"
        phrases.append(ground)
    if rng.random() < 0.2:
        caption += "."
    return caption, phrases


def _mention(rng: Random, thing: Thing, colourless: float) -> tuple[str, list[str]]:
    """``"small striped red star"`` and what of it counts as a phrase."""
    words = []
    if rng.random() < 0.15:
        if thing.size >= 0.52:
            words.append(rng.choice(_LARGE))
        elif thing.size <= 0.37:
            words.append(rng.choice(_SMALL))
    if rng.random() < 0.2:
        words.append(thing.texture)
    if rng.random() < colourless:
        return " ".join([*words, thing.kind]), []
    return " ".join([*words, thing.colour, thing.kind]), [thing.name]


def _listing(rng: Random, parts: list[str], order: list[int], things: Sequence[Thing]) -> str:
    """The objects one after the other, the first two often with how they lie to each other."""
    if len(parts) == 1:
        return parts[0]
    if rng.random() < 0.6:
        relation = rng.choice(_RELATIONS[_relation(rng, order[0], order[1], things)])
        parts = [f"{parts[0]} {relation} {parts[1]}", *parts[2:]]
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + rng.choice(_JOINS) + parts[-1]


def _relation(rng: Random, i: int, j: int, things: Sequence[Thing]) -> str:
    a, b = things[i], things[j]
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
