"""The texts of a batch, and which of them are right for which pictures. Shapes: B images, T texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pacl.data.pairs import Description


def pair_texts(
    described: Sequence[Sequence[Description]], wrap: Callable[[str], str] | None = None
) -> tuple[list[str], Tensor]:
    """The texts of a batch and its right pairs: the captions, and ALONGSIDE them the noun phrases that they name.

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
            for phrase in phrases
        ]
    positives = torch.zeros(len(described), len(column), dtype=torch.bool)
    if right:
        positives[tuple(zip(*right, strict=True))] = True
    return list(column), positives
