"""Batches of decoded images, bounded in memory; the images of the next batch are decoded meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from pacl.errors import UserError, is_out_of_memory
from pacl.images import open_image

BATCH_PIXELS = 16_000_000
"""Pixels of the decoded images of one batch, beyond its first image: bounds the memory."""


class Named(Protocol):
    """An image that is yet to be decoded."""

    @property
    def path(self) -> Path:
        """Of its file, or what it is called in messages."""


Item = TypeVar("Item", bound=Named)
Result = TypeVar("Result")
Batch = list[tuple[Item, "np.ndarray | UserError"]]
"""Images, each RGB uint8 [H, W, 3] or what is wrong with it."""


def read(item: Named) -> np.ndarray | UserError:
    """RGB uint8 [H, W, 3], or what is wrong with the file."""
    try:
        return open_image(item.path)
    except UserError as error:
        return error


def read_batches(
    items: Iterable[Item],
    size: int,
    load: Callable[[Item], np.ndarray | UserError] = read,
    workers: int = 1,
) -> Iterator[Batch[Item]]:
    """Batches of decoded images, in order.

    Args:
        items: the images, not decoded yet.
        size: at most so many are in a batch.
        load: decodes an image: RGB uint8 [H, W, 3], or what is wrong with it. It is called in other threads.
        workers: the number of these threads. Where the caller stops, nobody waits for what is left.
    """
    waiting, largest = iter(items), 0
    ahead: deque[tuple[Item, Future[np.ndarray | UserError]]] = deque()
    reader = ThreadPoolExecutor(workers)

    def read_ahead() -> None:
        # The size of an image is known once it is decoded: those ahead are taken to be as large as the largest so far.
        most = workers + 1 if largest == 0 else max(workers + 1, min(size, BATCH_PIXELS // largest))
        ahead.extend((item, reader.submit(load, item)) for item in islice(waiting, max(0, most - len(ahead))))

    try:
        read_ahead()
        while ahead:
            batch: Batch[Item] = []
            pixels = 0
            while ahead and len(batch) < size:
                item, future = ahead[0]
                image = future.result()
                area = 0 if isinstance(image, UserError) else image.shape[0] * image.shape[1]
                largest = max(largest, area)
                if batch and pixels + area > BATCH_PIXELS:
                    break
                ahead.popleft()
                batch.append((item, image))
                pixels += area
                read_ahead()
            yield batch
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def each_or_error(
    batch: Batch[Item], compute: Callable[[list[Item], list[np.ndarray]], Sequence[Result]], advice: str
) -> list[tuple[Item, np.ndarray | UserError, Result | UserError]]:
    """Compute something of the readable images together, or one by one where memory does not suffice for all.

    Args:
        batch: decoded images, see `read_batches`.
        compute: a result for each of some items and their images, in order.
        advice: what to try where memory does not suffice for a single image.

    Returns:
        Each item with its image and its result, or with what is wrong.
    """
    readable = [(item, image) for item, image in batch if not isinstance(image, UserError)]
    found: list[Result | UserError] = []
    try:
        if readable:
            found += compute([item for item, _ in readable], [image for _, image in readable])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) > 1:
            return [outcome for each in batch for outcome in each_or_error([each], compute, advice)]
        found.append(UserError(f"{batch[0][0].path}: out of memory; try {advice}"))
    results = iter(found)
    return [(item, image, image if isinstance(image, UserError) else next(results)) for item, image in batch]
