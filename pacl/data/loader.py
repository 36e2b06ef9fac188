"""A loader that a checkpoint can stop and a resumed run can start in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from pacl.data.sampling import DrawSampler


class EpochLoader:
    """The batches of one process, an epoch an iteration. Lightning keeps its state in every checkpoint.

    It has a length, so Lightning never fetches ahead: what it yielded is what was trained on.

    Args:
        batches: draws -> batches.
        sampler: the draws.
        workers: processes that make batches; 0 makes them in this one.
    """

    batch_sampler = None  # Lightning asks whether validation is shuffled

    def __init__(self, batches: Dataset[Any], sampler: DrawSampler, workers: int = 0) -> None:
        self.sampler = sampler  # under this name Lightning finds it and calls its set_epoch
        self.loader = DataLoader(
            batches,
            batch_size=None,  # a draw is a whole batch
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=as_is,
        )
        self.epoch = self.done = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.epoch, self.done = self.sampler.epoch, self.sampler.start
        for batch in self.loader:
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its steps are done."""
        begun = self.epoch == self.sampler.epoch  # the next one may be set already
        return {"epoch": self.sampler.epoch, "done": self.done if begun else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where that state was taken."""
        self.sampler.epoch, self.sampler.start = state["epoch"], state["done"]
        if state["done"] >= len(self):
            self.sampler.epoch, self.sampler.start = state["epoch"] + 1, 0


def as_is(batch: Any) -> Any:
    """The ``collate_fn`` of data sets whose items are batches."""
    return batch
