"""Ctrl-C, SIGTERM and SIGHUP as exceptions that never come in the middle of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from pacl.processes import ENDING


class Interruptions:
    """In the block, SIGINT raises `KeyboardInterrupt`, the other `ENDING` signals `SystemExit`, but not while `held`.

    Signals that are ignored stay ignored, as under nohup. In other threads than the main one, it does nothing.
    """

    def __init__(self) -> None:
        self._held = False
        self._pending: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @property
    def is_pending(self) -> bool:
        """Whether a signal has come that acts at the end of the block that is `held`."""
        return self._pending is not None

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes in the block acts at its end, if the block does not fail."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            self._raise(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = number
        else:
            self._raise(number)

    def _raise(self, number: int) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)  # as shells report it
