"""Progress of functions that take long: they never print, but take a function that wraps the items they go through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Tracked(Protocol):
    """Yields the items as they are and may show how many are done, as `pacl.cli.progress.tracked` does."""

    def __call__(self, items: Iterable[Item], title: str, total: int | None = None, /) -> Iterable[Item]:
        """The items of some work with a title; ``total`` is their number, where they do not know it."""


def untracked(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The items, and nothing is shown."""
    return items
