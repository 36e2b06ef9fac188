"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def tracked(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a transient progress bar if standard error is a terminal.

    Args:
        items: of any number.
        title: of the bar.
        total: number of items, where they do not know it.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, title, total, console=console, transient=True, disable=not console.is_terminal)
