"""How many processes read images: as many as asked for, but no more than there are cores.

Loaders of shards start all that are asked for: their batches depend on the number, and shards may come from a network.
"""

from __future__ import annotations

import os


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable(workers: int) -> int:
    """``workers``, or the number of cores if that is less: more processes only wait for each other."""
    return min(workers, cores())
