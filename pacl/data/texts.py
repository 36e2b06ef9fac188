"""The texts of a batch, and which of them are right for which pictures. Shapes: B images, T texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def pair_texts(
    captions: Sequence[str],
    phrases: Sequence[Sequence[str]],
    wrap: Callable[[str], str] = str,
) -> tuple[list[str], Tensor]:
    """The texts of a batch and its right pairs: the captions, and ALONGSIDE them the phrases that they name.

    Equal texts are merged. Every phrase becomes one text and is right for exactly the images whose own caption
    names it.

    Args:
        captions: one an image (B of them).
        phrases: the noun phrases of each caption; empty lists leave the captions alone.
        wrap: puts a phrase into a template.

    Returns:
        T unique texts, captions first, and the right pairs, bool [B, T].
    """
    column: dict[str, int] = {}
    right: list[tuple[int, int]] = []
    for image, caption in enumerate(captions):
        right.append((image, column.setdefault(caption, len(column))))
    for image, own in enumerate(phrases):
        right += [(image, column.setdefault(wrap(phrase), len(column))) for phrase in own]
    positives = torch.zeros(len(captions), len(column), dtype=torch.bool)
    if right:
        positives[tuple(zip(*right, strict=True))] = True
    return list(column), positives
