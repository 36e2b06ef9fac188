"""Which contrast prompts compete with the prompts of a user."""

from __future__ import annotations

from collections.abc import Iterable

from pacl.prompts import singular_forms, split_words

# Words without content: articles and the words of templates.
_EMPTY_WORDS = frozenset(
    split_words("a an the some this that of in on at and with is are there photo photograph picture image itap")
)


def competitors(prompts: Iterable[str], contrast: Iterable[str]) -> list[str]:
    """The contrast prompts that compete with ``prompts``: those that do not mean the same or something more specific.

    A contrast prompt that contains all content words of a prompt is left out: "a red fish" must not compete with
    "a fish". "a blue fish", "a fish" and "grass" all compete with "a red fish". Articles, words of templates ("a photo
    of") and a plural s are ignored.

    Args:
        prompts: the prompts of the user, synonyms included.
        contrast: the contrast prompts of the model.

    Returns:
        The rest of ``contrast``, in order, without repetitions.
    """
    asked = [words for words in map(_content_words, prompts) if words]
    return [
        rival for rival in dict.fromkeys(contrast) if not any(_has_all(_content_words(rival), words) for words in asked)
    ]


def _has_all(rival: list[frozenset[str]], words: list[frozenset[str]]) -> bool:
    return all(any(not word.isdisjoint(other) for other in rival) for word in words)


def _content_words(prompt: str) -> list[frozenset[str]]:
    """The content words of a prompt, each with its possible singular forms."""
    return [singular_forms(word) for word in split_words(prompt) if word not in _EMPTY_WORDS]
