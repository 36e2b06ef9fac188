"""The words that a head was trained on, and prompts that are far from all of them.

Where image and text tower were trained apart, a head knows what its captions and classes name, and what is like it:
"a giraffe" may get any mask if none was ever named. How near a prompt is to the nearest of those words, the text tower
tells. Measured with the photo model on 500 held-out photos of Flickr8k, phi of a noun is higher for a photo that it
names than for another in 84 % of the pairs where the noun is in the vocabulary, in 86 % of those where it is not but is
near, and in 71 % of those where it is far (759, 314 and 120 nouns). Nothing is said of a CLIP: it has read hundreds of
millions of captions that are not at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from pacl.models.backbone import Backbone
from pacl.models.towers.base import TextTower
from pacl.prompts import subjects

LIMIT = 2000
"""Nouns that a head's configuration carries: the most frequent ones, which a static text tower embeds in 30 ms."""
LEAST = 3
"""Captions that name a noun, before it counts as learned."""
NAMED = 10
"""Prompts that one warning names; the others are counted."""


@dataclass(frozen=True)
class Unfamiliar:
    """A prompt that is far from all words of the vocabulary.

    Attributes:
        prompt: as it was given.
        nearest: the word that is nearest to it.
        cosine: how near, in [-1, 1].
    """

    prompt: str
    nearest: str
    cosine: float


def trained_words(nouns: Counter[str], clip: Backbone, start: str) -> list[str]:
    """The vocabulary of a head.

    Args:
        nouns: how often the training captions name each.
        clip: the head's backbone.
        start: the head's; with ``conse`` it also knows the image tower's classes, by the first name of each.

    Returns:
        Lower-case words and phrases: nouns, the most frequent ones first, then classes.
    """
    frequent = [noun for noun, count in nouns.most_common(LIMIT) if count >= LEAST]
    classes = clip.classifier.names if clip.classifier and start == "conse" else []
    return list(dict.fromkeys([*frequent, *(names[0].lower() for names in classes)]))


class Vocabulary:
    """The words that a head was trained on.

    Args:
        words: V of them; without words nothing is far.
        text: the tower that tells near from far. Where it cannot, nothing is far.
    """

    def __init__(self, words: Sequence[str], text: TextTower) -> None:
        self.words, self.text = words, text

    @cached_property
    def vectors(self) -> Tensor:
        """Unit embeddings ``[V, D]`` in host memory, computed when they are first needed."""
        return self._embed(self.words)

    def unfamiliar(self, prompts: Sequence[str]) -> list[Unfamiliar]:
        """The prompts (without templates) that are far from all words, each once.

        A prompt is as near as the whole of it or its main noun: "a red apple" as "red apple" or "apple". Prompts that
        are among the words cost nothing.
        """
        if self.text.familiar is None or not self.words:
            return []
        known = set(self.words)
        asked = {prompt: subjects(prompt) for prompt in prompts}
        asked = {prompt: texts for prompt, texts in asked.items() if known.isdisjoint(texts)}
        if not asked:
            return []
        cosines = self._embed([text for texts in asked.values() for text in texts]) @ self.vectors.T  # [T, V]
        found = []
        for prompt, own in zip(asked, cosines.split([len(texts) for texts in asked.values()]), strict=True):
            cosine, index = own.amax(0).max(0)
            if cosine < self.text.familiar:
                found.append(Unfamiliar(prompt, self.words[int(index)], float(cosine)))
        return found

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(self.text.encode(texts).float(), dim=-1).cpu()


def say_unfamiliar(found: Sequence[Unfamiliar]) -> str:
    """One line that names the prompts, one or more, each with its nearest word."""
    parts = [f'"{each.prompt}" (nearest: {each.nearest}, {each.cosine:.2f})' for each in found[:NAMED]]
    if len(found) > NAMED:
        parts.append(f"{len(found) - NAMED} more")
    many = len(found) > 1
    subject = f"{', '.join(parts[:-1])} and {parts[-1]}" if many else parts[0]
    return (
        f"{subject} {'are' if many else 'is'} far from all words this model was trained on: "
        f"{'their masks' if many else 'its mask'} may mean little"
    )
