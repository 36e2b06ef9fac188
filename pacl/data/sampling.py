"""Which images each training step loads, as a function of the seed, and a data loader that can resume mid-epoch.

Neither this module nor the batches use a global random state: a resumed run makes exactly the choices that it would
have made without the interruption, with any number of processes and workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from pacl.data.workers import usable
from pacl.errors import UserError


@dataclass(frozen=True)
class StepIndices:
    """What one process loads in one step.

    Attributes:
        epoch: from 0.
        step: within the epoch, from 0.
        slots: int64 [b], the positions of these images in the order of the whole epoch; together with seed and epoch
            they seed everything random about an image.
        sources: int64 [b], the source of each image.
        indices: int64 [b], its index in that source.
    """

    epoch: int
    step: int
    slots: np.ndarray
    sources: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.slots)


def check_weights(weights: Sequence[float | None]) -> np.ndarray:
    """The weights of sources as numbers (None counts as 1), float64 [K].

    Raises:
        UserError: a weight is negative or not finite, or all are 0.
    """
    shares = np.array([1.0 if weight is None else weight for weight in weights])
    if not (np.isfinite(shares) & (shares >= 0)).all() or not shares.any():
        raise UserError(
            f"weight {', '.join(map(str, weights))}: must be at least 0, and above 0 for one of the sources"
        )
    return shares


def epoch_counts(sizes: Sequence[int], weights: Sequence[float | None]) -> list[int]:
    """How many images of each source an epoch takes.

    Without weights, every image once. With weights, the total number of images is divided among the sources in
    proportion to the weights (None counts as 1).

    Raises:
        UserError: an error of `check_weights`.
    """
    if all(weight is None for weight in weights):
        return list(sizes)
    shares = check_weights(weights)
    ends = np.rint(np.cumsum(shares / shares.sum()) * sum(sizes)).astype(int)
    return np.diff(ends, prepend=0).tolist()


class StepSampler(Sampler[StepIndices]):
    """What one process loads in each step; each iteration is one epoch.

    If an epoch takes only a part of a source, or more than all of it, the next epoch continues where this one stopped:
    all images of the source are seen before one is repeated.

    Args:
        sizes: number of images of each source.
        weights: weight of each source, see `epoch_counts`.
        batch: images per step, over all processes.
        seed: decides every order.
        shuffle: False yields all sources in their own order.
        drop_last: leave out an incomplete last step.
        rank: rank of this process; it takes items rank, rank + ranks, rank + 2 ranks, ... of a step.
        ranks: number of processes.

    Attributes:
        epoch: the epoch that the next iteration yields.
        start: its first step; reset to 0 for the following epoch.
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

    def __iter__(self) -> Iterator[StepIndices]:
        epoch, start = self.epoch, self.start
        self.set_epoch(epoch + 1)  # at once: Lightning takes a number of steps and never exhausts the iterator
        sources, indices = self.order(epoch)
        for step in range(start, self.steps):
            end = min((step + 1) * self.batch, len(indices))
            slots = np.arange(step * self.batch + self.rank, end, self.ranks)
            yield StepIndices(epoch, step, slots, sources[slots], indices[slots])

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and index of every image of an epoch, int64 [n] each."""
        sources = np.repeat(np.arange(len(self.sizes)), self.counts)
        if not self.shuffle:
            return sources, np.concatenate([np.arange(count) for count in self.counts])
        indices = np.concatenate(
            [
                self._permuted(k, epoch * count, count) if count else np.empty(0, np.int64)
                for k, count in enumerate(self.counts)
            ]
        )
        mixed = np.random.default_rng([self.seed, epoch, 0]).permutation(len(indices))
        return sources[mixed], indices[mixed]

    def _permuted(self, source: int, start: int, count: int) -> np.ndarray:
        """Items start to start + count - 1 of an endless sequence of random permutations of a source."""
        size = self.sizes[source]
        passes = range(start // size, (start + count - 1) // size + 1)
        row = np.concatenate([np.random.default_rng([self.seed, p, source + 1]).permutation(size) for p in passes])
        return row[start % size : start % size + count]


class EpochLoader:
    """A data loader whose state can be saved and restored in the middle of an epoch; each iteration is one epoch.

    It counts epochs itself, because Lightning's count is one too high after a run that stopped at the end of an epoch.
    It has a length, so Lightning does not prefetch: every batch that was yielded has been trained on.

    Args:
        batches: maps steps to batches.
        order: the images of each step.
        workers: processes that make batches; 0 makes them in this one.
    """

    def __init__(self, batches: Dataset[Any], order: StepSampler, workers: int = 0) -> None:
        self.order = order  # not named "sampler": Lightning would set its epoch
        self.loader = DataLoader(
            batches,
            batch_size=None,  # a step is a whole batch
            sampler=order,
            num_workers=usable(workers),
            persistent_workers=workers > 0,
            collate_fn=as_is,
        )
        self.epoch = self.done = 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.epoch, self.done = self.order.epoch, self.order.start
        for batch in self.loader:
            self.done += 1
            yield batch

    def state(self) -> dict[str, int]:
        """The epoch and the number of its steps that are done."""
        return {"epoch": self.epoch, "done": self.done}

    def restore(self, state: dict[str, int]) -> None:
        """Continue after the last step of a state that `state` returned, perhaps in a new process."""
        self.epoch, self.done = state["epoch"], state["done"]
        if self.done >= len(self):
            self.epoch, self.done = self.epoch + 1, 0
        self.order.epoch, self.order.start = self.epoch, self.done


def as_is(batch: Any) -> Any:
    """``collate_fn`` for data sets whose items are batches already."""
    return batch
