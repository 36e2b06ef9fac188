"""Words of the captions that a head is trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from pacl.data.batches import with_person
from pacl.data.pairs import PairSource
from pacl.prompts import split_words

WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W_]+|[^\w\s]")  # the end of a contraction, a word or number, a sign


def frequent_words(sources: Sequence[PairSource], least: int = 3) -> tuple[str, ...]:
    """The words and signs, in lower case and sorted, that occur at least so often in the captions."""
    words = Counter(
        word
        for source in sources
        for index in range(len(source))
        for caption, _ in source.descriptions(index)
        for word in WORD.findall(caption.lower())
    )
    return tuple(sorted(word for word, count in words.items() if count >= least))


def count_nouns(sources: Sequence[PairSource]) -> Counter[str]:
    """How often each noun occurs in the captions."""
    return Counter(
        noun
        for source in sources
        for index in range(len(source))
        for _, nouns in source.descriptions(index)
        for noun in with_person(nouns)
    )


def unknown_words(sources: Sequence[PairSource], known: Collection[str], images: int = 1000) -> tuple[float, list[str]]:
    """The share of the words in captions that are not among the known ones, and those that occur most.

    Args:
        sources: of the captions.
        known: the words that a model has.
        images: about so many, spread over the sources, are looked at.
    """
    step = max(1, sum(map(len, sources)) // images)
    some = ((source, i) for source in sources for i in range(0, len(source), step))
    words = [word for source, i in some for text, _ in source.descriptions(i) for word in split_words(text)]
    unknown = Counter(word for word in words if word not in known)
    return unknown.total() / max(1, len(words)), [word for word, _ in unknown.most_common(5)]
