"""The words that a head was trained on, and the detection of prompts that are dissimilar to all of them.

If the image tower and the text tower were trained separately, a head can segment only what its training captions and
classes mention, and similar things; the mask of anything else may be arbitrary. Similarity to the training words is the
cosine of text embeddings. CLIPs are not checked, since their training captions are not available.

This is how well it works, measured with the photo model on 500 held-out photos of Flickr8k. Take a noun, a photo whose
caption contains it and another photo. phi of the noun is higher for the first photo in 84 % of the cases if the noun is
in the vocabulary, in 86 % if it is only similar to a word of it, and in 71 % if it is dissimilar to all words (759, 314
and 120 nouns).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from pacl.errors import ask_meant
from pacl.models.backbone import Backbone
from pacl.models.towers.base import TextTower
from pacl.printing import quoted
from pacl.prompts import FUNCTION_WORDS, singular_forms, split_words, subjects

LIMIT = 2000
"""Maximum number of nouns in a head's configuration; a static text tower encodes them in 30 ms."""
LEAST = 3
"""Minimum number of training captions that contain a noun."""
NAMED = 10
"""Maximum number of prompts that a warning lists."""
ENDINGS = frozenset(("es", "ed", "ing", "er", "ers", "ly", "like", "less"))
"""Pieces that only inflect the known word before them. A single letter may be a slip, as in "skyy" and "grasss"."""
SHORTEST = 3
"""Letters of the words that a compound is made of."""
CLOSE, CLOSE_SHORT = 0.75, 0.66
"""Smallest ratio of difflib between a misspelt word and the one that was meant. Words of up to three letters have the
latter: one of them may differ."""
NEARLY = 0.88
"""The same where the text tower knows the word: a letter of long ones may be missing ("gras", not "time": "tie")."""
MEANT = 2
"""Maximum number of equally close words that are suggested for one."""


@dataclass(frozen=True)
class Unfamiliar:
    """A prompt that is dissimilar to all words of the vocabulary.

    Attributes:
        prompt: as it was given.
        nearest: the most similar word of the vocabulary.
        cosine: its cosine with the prompt, in [-1, 1].
        meant: words of the vocabulary that are spelt like a word of it, if the text tower does not know that.
    """

    prompt: str
    nearest: str
    cosine: float
    meant: tuple[str, ...] = ()


def trained_words(nouns: Counter[str], clip: Backbone, start: str) -> list[str]:
    """The vocabulary of a head.

    Args:
        nouns: number of training captions with each noun.
        clip: the head's backbone.
        start: start of the head; with ``conse`` the first name of each class of the image tower is added.

    Returns:
        Lower-case words and phrases: nouns, the most frequent ones first, then names of classes. Empty if no noun is
        frequent, as where they were not counted: words of the captions would be far from those of the classes alone.
    """
    frequent = [noun for noun, count in nouns.most_common(LIMIT) if count >= LEAST]
    if not frequent:
        return []
    classes = clip.classifier.names if clip.classifier and start == "conse" else []
    return list(dict.fromkeys([*frequent, *(names[0].lower() for names in classes)]))


class Vocabulary:
    """The words that a head was trained on.

    Args:
        words: V words; if there are none, no prompt is unfamiliar.
        text: the text tower. If its `familiar` is None, no prompt is unfamiliar.
    """

    def __init__(self, words: Sequence[str], text: TextTower) -> None:
        self.words, self.text = words, text

    @cached_property
    def vectors(self) -> Tensor:
        """Unit embeddings ``[V, D]`` in host memory, computed when they are first needed."""
        return self._embed(self.words)

    @cached_property
    def _single(self) -> dict[str, None]:
        """The single words of all words and phrases, in their order."""
        return dict.fromkeys(word for text in self.words for word in split_words(text))

    def meant(self, words: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The words of the vocabulary that are spelt nearly like each of some words, see `close_words`."""
        return {word: close_words(word, self._single) for word in words}

    def unfamiliar(self, prompts: Sequence[str]) -> list[Unfamiliar]:
        """The prompts (without templates) that are dissimilar to all words, without duplicates.

        A prompt is compared with the words as a whole and by its main noun ("red apple" and "apple" for "a red apple");
        the higher cosine counts. Prompts that are in the vocabulary are not encoded.
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
                slips = list(self.in_pieces([prompt]))
                meant = self.meant(slips[:1]).get(slips[0], ()) if slips else self._misspelt(prompt)
                found.append(Unfamiliar(prompt, self.words[int(index)], float(cosine), meant))
        return found

    def _misspelt(self, prompt: str) -> tuple[str, ...]:
        """What was meant where a slip is a word that the text tower knows ("gras"): no more than a letter off."""
        for word in split_words(prompt):
            if word not in self._single and (close := difflib.get_close_matches(word, self._single, 1, NEARLY)):
                return tuple(close)
        return ()

    def in_pieces(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        """The words of prompts that the text tower does not know as a whole -> what it reads instead.

        The mean vector of the pieces may be similar to a known word by chance, so that `unfamiliar` does not find them.
        Not among them are numbers, known words with a regular ending, and compounds of known words. For the photo
        model, none of the 1,532 class names of the benchmarks has such a word, and 2 % of the words of COCO's captions
        are such ("bidet", "frisbe").
        """
        trained = self._single.keys()
        words = dict.fromkeys(word for prompt in prompts for word in split_words(prompt))
        asked = (word for word in words if trained.isdisjoint(singular_forms(word)))
        return {word: self.text.pieces(word) or [] for word in asked if not knows(self.text, word)}

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(self.text.encode(texts).float(), dim=-1).cpu()


def knows(text: TextTower, word: str) -> bool:
    """Whether a text tower reads a word as a whole, with a regular ending, or as a compound of known words.

    True where a transformer makes sense of any word, and for numbers.
    """
    if text.familiar is None or not (pieces := text.pieces(word)):
        return True
    if word in FUNCTION_WORDS or any(letter.isdigit() for letter in word):
        return True
    if any(_is_whole(text, form) for form in singular_forms(word)):
        return True
    first, *rest = pieces
    if not all(pieces) or not _is_whole(text, first):
        return False
    if len(rest) == 1 and rest[0] in ENDINGS:
        return True
    return all(len(piece) >= SHORTEST and _is_whole(text, piece) for piece in pieces)


def _is_whole(text: TextTower, word: str) -> bool:
    pieces = text.pieces(word)
    return pieces is not None and len(pieces) == 1 and pieces[0] != ""


def close_words(word: str, known: Collection[str]) -> tuple[str, ...]:
    """The known words that are spelt most like a word, up to `MEANT` in their order; none if none is close.

    Those with its first letter and the same others come first: difflib takes letters that changed places for two slips.
    """
    if swapped := [each for each in known if each[:1] == word[:1] and sorted(each) == sorted(word)]:
        return tuple(swapped[:MEANT])
    close = difflib.get_close_matches(word, known, n=NAMED, cutoff=CLOSE if len(word) > SHORTEST else CLOSE_SHORT)
    ratios = {each: difflib.SequenceMatcher(None, each, word).ratio() for each in close}
    best = [each for each in known if each in ratios and ratios[each] == max(ratios.values())]
    return tuple(best[:MEANT])


def say_unknown(unknown: Sequence[str], known: Collection[str]) -> str:
    """A warning of one line that lists words that a model with the vocabulary ``known`` was never taught."""
    parts = []
    for word in unknown[:NAMED]:
        meant = close_words(word, known)
        parts.append(f"{word!r} ({ask_meant(meant)})" if meant else repr(word))
    words = ", ".join([*parts, *_rest(len(unknown))])
    return f"this model knows {len(known)} words and not {words}: the results of prompts with them mean nothing"


def say_in_pieces(found: Mapping[str, Sequence[str]], meant: Mapping[str, Sequence[str]] | None = None) -> str:
    """A warning of one line that lists words that are read in pieces, with those that were ``meant``, if any."""
    parts = []
    for word, pieces in list(found.items())[:NAMED]:
        close = (meant or {}).get(word)
        parts.append(f'"{word}" ({ask_meant(close) if close else " + ".join(each or "?" for each in pieces)})')
    words = ", ".join([*parts, *_rest(len(found))])
    are, they = ("are no words", "they are") if len(found) > 1 else ("is no word", "it is")
    return f"{words} {are} that this model knows: {they} read in pieces, and what that finds may mean little"


def say_alike(groups: Sequence[Sequence[str]]) -> str:
    """A warning of one line that lists groups of labels that mean nearly the same."""
    labels = [quoted("; ".join(group[:NAMED])) for group in groups[:NAMED]]
    return f"{_groups(groups)} mean nearly the same and share its pixels; one label is {' or '.join(labels)}"


def say_same(groups: Sequence[Sequence[str]]) -> str:
    """A warning of one line that lists groups of prompts with the same embedding."""
    return f"{_groups(groups)}: the same to this model, which cannot tell them apart"


def _groups(groups: Sequence[Sequence[str]]) -> str:
    """The first prompts of the first groups."""
    parts = [
        " and ".join([*(quoted(prompt) for prompt in group[:NAMED]), *_rest(len(group))]) for group in groups[:NAMED]
    ]
    return "; ".join([*parts, *_rest(len(groups))])


def _rest(count: int) -> list[str]:
    """The number of things that are not listed, of ``count``, as the end of a list."""
    return [f"{count - NAMED} more"] if count > NAMED else []


def say_unfamiliar(found: Sequence[Unfamiliar]) -> str:
    """A warning in one line that lists the prompts with the words that were meant, or their nearest words."""
    parts = [
        f"{quoted(each.prompt)} "
        f"({ask_meant(each.meant) if each.meant else f'nearest: {each.nearest}, {each.cosine:.2f}'})"
        for each in found[:NAMED]
    ]
    parts += _rest(len(found))
    many = len(found) > 1
    subject = f"{', '.join(parts[:-1])} and {parts[-1]}" if many else parts[0]
    return (
        f"{subject} {'are' if many else 'is'} far from all words this model was trained on: "
        f"{'their results' if many else 'its result'} may mean little"
    )
