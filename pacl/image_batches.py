"""Batches of decoded images, bounded in memory; the images of the next batch are decoded meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from pacl.errors import UserError
from pacl.images import open_image

BATCH_PIXELS = 16_000_000
"""Pixels of the decoded images of one batch, beyond its first image: bounds the memory."""


class HasPath(Protocol):
    """What is read: anything with the path of an image file."""

    @property
    def path(self) -> Path: ...


File = TypeVar("File", bound=HasPath)


def read_batches(
    files: Iterable[File], reader: ThreadPoolExecutor, size: int
) -> Iterator[list[tuple[File, np.ndarray | UserError]]]:
    """Batches of at most ``size`` decoded images, in order, each RGB uint8 [H, W, 3] or what is wrong with its file."""
    waiting = iter(files)
    ahead = [(file, reader.submit(read, file)) for file in islice(waiting, size)]
    while ahead:
        batch: list[tuple[File, np.ndarray | UserError]] = []
        pixels = 0
        while ahead and len(batch) < size:
            file, future = ahead[0]
            image = future.result()
            area = 0 if isinstance(image, UserError) else image.shape[0] * image.shape[1]
            if batch and pixels + area > BATCH_PIXELS:
                break
            ahead.pop(0)
            batch.append((file, image))
            pixels += area
            ahead += [(file, reader.submit(read, file)) for file in islice(waiting, 1)]
        yield batch


def read(file: HasPath) -> np.ndarray | UserError:
    """RGB uint8 [H, W, 3], or what is wrong with the file."""
    try:
        return open_image(file.path)
    except UserError as error:
        return error
