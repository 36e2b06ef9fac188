"""Which pictures make which step: a pure function of the seed, so that any step of any run can be made again.

Nothing here, nor in the batches that follow, reads a global random state: a run that stopped goes on with the very
draws that it would have had, whatever the number of processes and workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from pacl.errors import UserError


@dataclass(frozen=True)
class Draw:
    """What one process loads for one step.

    Attributes:
        epoch: from 0.
        step: within the epoch, from 0.
        slots: int64 [b], the places of these pictures among all that the epoch draws; with seed and epoch they
            decide everything random about a picture.
        sources: int64 [b], which source each is from.
        indices: int64 [b], which picture of that source.
    """

    epoch: int
    step: int
    slots: np.ndarray
    sources: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.slots)


def epoch_counts(sizes: Sequence[int], weights: Sequence[float | None]) -> list[int]:
    """How many pictures of each source an epoch draws.

    Without weights every picture once. With them as many pictures as there are in all, divided by the weights (a
    missing one counts as 1).

    Raises:
        UserError: a weight that is no number of 0 or more, or nothing but 0.
    """
    if all(weight is None for weight in weights):
        return list(sizes)
    shares = np.array([1.0 if weight is None else weight for weight in weights])
    if not (np.isfinite(shares) & (shares >= 0)).all() or not shares.any():
        raise UserError(f"weight {', '.join(map(str, weights))}: of sources 0 or more, and not all 0")
    ends = np.rint(np.cumsum(shares / shares.sum()) * sum(sizes)).astype(int)
    return np.diff(ends, prepend=0).tolist()


class DrawSampler(Sampler[Draw]):
    """The draws of one process, an epoch an iteration.

    A source whose share of an epoch is not its size goes on where the last epoch stopped: all its pictures are
    seen before one comes again.

    Attributes:
        epoch: the epoch that the next iteration yields.
        start: its first step; it is 0 again for the epoch after.

    Args:
        sizes: pictures of each source.
        weights: of the sources, see `epoch_counts`.
        batch: pictures of a step, over all processes.
        seed: of every order.
        shuffle: False yields all sources in their order, always the same.
        drop_last: leave out an incomplete last step.
        rank: this process.
        ranks: processes; each takes every so-manyth picture of a step.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float | None],
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.sizes, self.counts = list(sizes), epoch_counts(sizes, weights)
        self.batch, self.seed, self.shuffle, self.rank, self.ranks = batch, seed, shuffle, rank, ranks
        total = sum(self.counts)
        self.steps = total // batch if drop_last else -(-total // batch)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Yield that epoch next, from its first step."""
        self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[Draw]:
        epoch, start = self.epoch, self.start
        self.set_epoch(epoch + 1)  # now: who takes a number of steps does not ask for the end (Lightning does not)
        sources, indices = self.order(epoch)
        for step in range(start, self.steps):
            end = min((step + 1) * self.batch, len(indices))
            slots = np.arange(step * self.batch + self.rank, end, self.ranks)
            yield Draw(epoch, step, slots, sources[slots], indices[slots])

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and index of every picture of an epoch, int64 [n] each."""
        sources = np.repeat(np.arange(len(self.sizes)), self.counts)
        if not self.shuffle:
            return sources, np.concatenate([np.arange(count) for count in self.counts])
        indices = np.concatenate(
            [
                self._stretch(k, epoch * count, count) if count else np.empty(0, np.int64)
                for k, count in enumerate(self.counts)
            ]
        )
        mixed = np.random.default_rng([self.seed, epoch, 0]).permutation(len(indices))
        return sources[mixed], indices[mixed]

    def _stretch(self, source: int, start: int, count: int) -> np.ndarray:
        """Pictures start to start + count of the endless row of one source's permutations."""
        size = self.sizes[source]
        passes = range(start // size, (start + count - 1) // size + 1)
        row = np.concatenate([np.random.default_rng([self.seed, p, source + 1]).permutation(size) for p in passes])
        return row[start % size : start % size + count]
