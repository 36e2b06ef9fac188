"""Batches of decoded images, bounded in memory; the images of the next batch are decoded meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from pacl.errors import UserError
from pacl.images import open_image

BATCH_PIXELS = 16_000_000
"""Pixels of the decoded images of one batch, beyond its first image: bounds the memory."""


class Named(Protocol):
    """An image that is yet to be decoded."""

    @property
    def path(self) -> Path:
        """Of its file, or what it is called in messages."""


Item = TypeVar("Item", bound=Named)


def read(item: Named) -> np.ndarray | UserError:
    """RGB uint8 [H, W, 3], or what is wrong with the file."""
    try:
        return open_image(item.path)
    except UserError as error:
        return error


def read_batches(
    items: Iterable[Item],
    reader: ThreadPoolExecutor,
    size: int,
    load: Callable[[Item], np.ndarray | UserError] = read,
) -> Iterator[list[tuple[Item, np.ndarray | UserError]]]:
    """Batches of at most ``size`` decoded images, in order, each RGB uint8 [H, W, 3] or what is wrong with it."""
    waiting = iter(items)
    ahead = [(item, reader.submit(load, item)) for item in islice(waiting, size)]
    while ahead:
        batch: list[tuple[Item, np.ndarray | UserError]] = []
        pixels = 0
        while ahead and len(batch) < size:
            item, future = ahead[0]
            image = future.result()
            area = 0 if isinstance(image, UserError) else image.shape[0] * image.shape[1]
            if batch and pixels + area > BATCH_PIXELS:
                break
            ahead.pop(0)
            batch.append((item, image))
            pixels += area
            ahead += [(item, reader.submit(load, item)) for item in islice(waiting, 1)]
        yield batch
