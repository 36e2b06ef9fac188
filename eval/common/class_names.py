"""Class names of the user's that stand in the places of a data set's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Misplaced:
    """A name in the place of another class than its own.

    Attributes:
        name: the name.
        place: the class whose place it is in.
        meant: the class that it is the name of.
    """

    name: str
    place: str
    meant: str

    def __str__(self) -> str:
        return f'"{self.name}" stands in the place of the class "{self.place}"'


def find_misplaced(names: Sequence[str], keys: Sequence[str]) -> Misplaced | None:
    """The first of some names, one for each class in their order, that is the key of another class; None if none is.

    Args:
        names: the names, which may be other words than the keys.
        keys: the data set's own names of the classes, in the order of their numbers.
    """
    for name, place in zip(names, keys, strict=False):
        meant = same_word(name, keys)
        if meant is not None and same_word(name, [place]) is None:
            return Misplaced(name, place, meant)
    return None


def same_word(name: str, keys: Sequence[str]) -> str | None:
    """The key that is a name in another case or with underscores for spaces."""
    plain = _plain(name)
    return next((key for key in keys if _plain(key) == plain), None)


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ")
