"""A loader that a checkpoint can stop and a resumed run can start in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from pacl.data.sampling import DrawSampler


class EpochLoader:
    """The batches of one process: each iteration is an epoch, and the one after goes on with the next.

    It counts its epochs itself, because Lightning's count runs ahead when a run ends or is stopped at an epoch's end.
    It has a length, so Lightning never fetches ahead: what it yielded is what was trained on.

    Args:
        batches: draws -> batches.
        order: the draws.
        workers: processes that make batches; 0 makes them in this one.
    """

    def __init__(self, batches: Dataset[Any], order: DrawSampler, workers: int = 0) -> None:
        self.order = order  # (under the name of sampler Lightning would set its epoch)
        self.loader = DataLoader(
            batches,
            batch_size=None,  # a draw is a whole batch
            sampler=order,
            num_workers=workers,
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
        """The epoch and how many of its steps are done."""
        return {"epoch": self.epoch, "done": self.done}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where that state was taken."""
        self.epoch, self.done = state["epoch"], state["done"]
        if self.done >= len(self):
            self.epoch, self.done = self.epoch + 1, 0
        self.order.epoch, self.order.start = self.epoch, self.done


def as_is(batch: Any) -> Any:
    """The ``collate_fn`` of data sets whose items are batches."""
    return batch
