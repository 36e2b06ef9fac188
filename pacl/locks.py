"""Locks between processes, by files. A lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def lock(path: str | Path, danger: str, *, wait: float = 0) -> Iterator[bool]:
    """Hold a lock in the block.

    Args:
        path: of the lock's file, in a folder that exists; the file stays.
        danger: what may go wrong where the file system has no locks, as some network drives; the block then runs
            without one.
        wait: seconds to wait for another process that holds the lock.

    Yields:
        True if this process holds the lock, False if another one does.

    Warns:
        UserWarning: the file system has no locks.
    """
    path = Path(path)
    held = FileLock(path)
    try:
        held.acquire(timeout=wait)
    except Timeout:
        is_free = False
    except (OSError, NotImplementedError) as error:
        is_free = True
        warnings.warn(f"{path.parent} cannot be locked ({error}): {danger}", stacklevel=5)  # the caller's caller
    else:
        is_free = True
    try:
        yield is_free
    finally:
        held.release()
