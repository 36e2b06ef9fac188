"""The texts of a batch, and which of them are right for which pictures. Shapes: B images, T texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pacl.data.pairs import Description

PERSONS = {
    *(
        "man",
        "woman",
        "boy",
        "girl",
        "child",
        "kid",
        "person",
        "people",
        "baby",
        "toddler",
        "teenager",
        "teen",
        "adult",
    ),
    *("guy", "lady", "mom", "dad", "mother", "father", "friend", "couple", "family", "bride", "groom", "student"),
    *("crowd", "audience", "fan", "spectator", "player", "athlete", "runner", "racer", "rider", "biker", "bicyclist"),
    *("cyclist", "climber", "hiker", "diver", "swimmer", "surfer", "kayaker", "skater", "skateboarder", "skier"),
    *("snowboarder", "gymnast", "wrestler", "dancer", "singer", "musician", "performer", "artist", "worker", "officer"),
    *("policeman", "soldier", "cowboy", "fisherman", "driver"),
}
"""Noun phrases that end in one of these also name a person."""


def with_person(phrases: Sequence[str]) -> Sequence[str]:
    """Add "person" to phrases of which one names a person by another word.

    Captions say man, girl or skier, and hardly ever "person", which is what people search for.
    """
    return [*phrases, "person"] if any(phrase.rpartition(" ")[2] in PERSONS for phrase in phrases) else phrases


def pair_texts(
    described: Sequence[Sequence[Description]], wrap: Callable[[str], str] | None = None
) -> tuple[list[str], Tensor]:
    """The texts of a batch and its right pairs: the captions, and ALONGSIDE them the noun phrases that they name
    (`with_person`).

    Equal texts are merged. Every phrase becomes one text, right for exactly the images whose own captions name it.

    Args:
        described: the captions of each of B images with their noun phrases.
        wrap: puts a phrase into a template, the same one every time; None leaves the phrases out.

    Returns:
        T unique texts, captions first, and the right pairs, bool [B, T].
    """
    column: dict[str, int] = {}
    right = [
        (image, column.setdefault(caption, len(column))) for image, own in enumerate(described) for caption, _ in own
    ]
    if wrap is not None:
        right += [
            (image, column.setdefault(wrap(phrase), len(column)))
            for image, own in enumerate(described)
            for _, phrases in own
            for phrase in with_person(phrases)
        ]
    positives = torch.zeros(len(described), len(column), dtype=torch.bool)
    if right:
        positives[tuple(zip(*right, strict=True))] = True
    return list(column), positives
