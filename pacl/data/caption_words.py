"""Words of the captions that a head is trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pytorch_lightning.utilities import rank_zero_warn

from pacl.data.batches import with_person
from pacl.data.pairs import PairSource
from pacl.errors import UserError
from pacl.models.backbone import Backbone
from pacl.models.vocabulary import knows
from pacl.prompts import split_words

WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W_]+|[^\w\s]")  # the end of a contraction, a word or number, a sign


MANY_UNKNOWN = 0.05
"""A warning tells of words that the text tower does not know if they are more than this share. With the photo model,
English captions of photos stay far below it, and those in other languages far above."""


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


def some_captions(sources: Sequence[PairSource], images: int = 1000) -> list[str]:
    """The captions of about so many images, spread over the sources."""
    step = max(1, sum(map(len, sources)) // images)
    some = ((source, i) for source in sources for i in range(0, len(source), step))
    return [text for source, i in some for text, _ in source.descriptions(i)]


def unknown_words(texts: Iterable[str], is_known: Callable[[str], bool]) -> tuple[float, list[str]]:
    """The share of the words in texts that are not known, and those that occur most; 0 without words."""
    words = Counter(word for text in texts for word in split_words(text))
    unknown = Counter({word: count for word, count in words.items() if not is_known(word)})
    return unknown.total() / max(1, words.total()), [word for word, _ in unknown.most_common(5)]


def check_words(texts: Sequence[str], clip: Backbone | None, *, sample: str = "") -> None:
    """Warn if many words of the captions are unknown to the text tower, which may know few words or one language.

    Args:
        texts: captions, spread over the data.
        clip: the backbone; None passes.
        sample: what they are otherwise, as in "the first batch of "; then none are refused.

    Raises:
        UserError: it knows none of them, not even in pieces.
    """
    if clip is None:
        return
    closed = clip.vocabulary
    share, often = unknown_words(texts, partial(knows, clip.text) if closed is None else closed.__contains__)
    if share <= MANY_UNKNOWN:
        return
    of = f"{share:.0%} of the words in {sample}the captions ({', '.join(often)}, ...)"
    if closed is None:
        message = f"the text tower does not know {of}: use captions in its language, English with the photo model"
    else:
        message = f"this CLIP knows {len(closed)} words, and {of} are not among them"
    message += ", or choose another backbone"
    words = {word for text in texts for word in split_words(text)}
    if share == 1 and not sample and (closed is not None or not any(map(clip.text.count_tokens, words))):
        raise UserError(message)  # (else words are read in pieces, as Latin names are)
    rank_zero_warn(message)
