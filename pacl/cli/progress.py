"""Progress of long work: a bar on a terminal, elsewhere a line now and then, of commands that want one.

rich draws the bar. It goes to standard error, and a closed one gets nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

LINE_EVERY = 10.0
"""Seconds from one line of progress to the next where there is no terminal."""

DRAW_EVERY = 0.1
"""Seconds from one drawing of the bar to the next."""

Item = TypeVar("Item")


class ProgressMeter:
    """Shows how much of some work is done, from the first `update` to the end of the block.

    Args:
        title: of the work.
        total: how much there is; None if that is not known.
        line: prints a line of progress where there is no terminal; None prints none.
        console: where the bar is drawn; None is standard error.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        line: Callable[[str], object] | None = None,
        console: Console | None = None,
    ) -> None:
        from rich.console import Console

        self.title, self.total, self.line = title, total, line
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._first: tuple[float, int] | None = None  # when the first part was done, and how much that was
        self._done = 0
        self._shown = -math.inf  # when it was shown last
        self._on_terminal = self.console.is_terminal  # (takes longer than all of `update`)

    def __enter__(self) -> ProgressMeter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._draw()
            self._bar.stop()

    def update(self, done: int, total: int | None = None, title: str | None = None) -> None:
        """Show that so much is done; a ``total`` or ``title`` replaces the former one."""
        if not self._on_terminal and self.line is None:
            return
        is_new = title is not None and title != self.title
        self.title = self.title if title is None else title
        self.total = self.total if total is None else total
        self._done = done
        if not self._on_terminal:
            self._tell(done)
        elif is_new or done == self.total or time.monotonic() - self._shown >= DRAW_EVERY:
            self._draw()

    def _draw(self) -> None:
        self._shown = time.monotonic()
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            title = TextColumn("{task.description}", markup=False)
            columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.add_task(self.title)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=self._done, total=self.total, description=self.title)

    def _tell(self, done: int) -> None:
        if not done:
            return
        now = time.monotonic()
        if self._first is None:  # the first part takes longer than the others: no time can be told of it
            self._first, self._shown = (now, done), now
        elif now - self._shown >= LINE_EVERY and self.line is not None:
            self._shown = now
            self.line(f"{self.title} ({self._count(done, now)})")

    def _count(self, done: int, now: float) -> str:
        if not self.total:
            return f"{done:,}"
        start, before = self._first or (now, done)
        left = (now - start) / max(1, done - before) * max(0, self.total - done)
        return f"{done:,} of {self.total:,}, {left:.0f} s left"


def tracked(
    items: Iterable[Item], title: str, total: int | None = None, *, line: Callable[[str], object] | None = None
) -> Iterator[Item]:
    """The items, with a `ProgressMeter` of those that the caller is done with.

    Args:
        items: of any number.
        title: of the work.
        total: number of items, where they do not know it.
        line: see `ProgressMeter`.
    """
    with ProgressMeter(title, length_hint(items) or None if total is None else total, line=line) as meter:
        meter.update(0)
        for done, item in enumerate(items, start=1):
            yield item
            meter.update(done)
