"""Segment many image files in batches: the next are decoded and the last are written while the tower works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from pacl.cli.inputs import ImageFile
from pacl.cli.messages import is_out_of_memory, memory_advice
from pacl.errors import UserError
from pacl.images import open_image
from pacl.results.writer import Writer

if TYPE_CHECKING:
    from pacl.segmentation.query import EncodedQuery
    from pacl.segmentation.segmenter import Segmentation, Segmenter
    from pacl.segmentation.settings import SegmenterSettings

BATCH_PIXELS = 16_000_000
"""Pixels of the decoded images of one batch, beyond its first image: bounds the memory."""

Outcome = tuple[ImageFile, "dict[str, Any] | UserError"]
"""An image and the record of its results, or what is wrong with it."""


def segment_files(
    files: Sequence[ImageFile], query: EncodedQuery, segmenter: Segmenter, writer: Writer
) -> Iterator[Outcome]:
    """Segment image files and write their results.

    Args:
        files: the images.
        query: what to look for, see `Segmenter.prepare`.
        segmenter: at most its ``window_batch`` images go through the tower at once.
        writer: writes the files.

    Yields:
        The outcome of each image, in the order of ``files``, as soon as it is written.
    """
    advice = memory_saving(segmenter.settings)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as scribe:
        try:
            written: list[Future[Outcome]] = []
            for batch in read_batches(files, reader, segmenter.settings.window_batch):
                found = segment_batch(batch, query, segmenter)
                yield from (outcome.result() for outcome in written)  # those of the batch before
                written = [scribe.submit(write, writer, advice, *each) for each in found]
            yield from (outcome.result() for outcome in written)
        finally:  # nobody waits for what is left when the caller stops
            reader.shutdown(wait=False, cancel_futures=True)
            scribe.shutdown(wait=False, cancel_futures=True)


Batch = list[tuple[ImageFile, "np.ndarray | UserError"]]


def read_batches(files: Sequence[ImageFile], reader: ThreadPoolExecutor, size: int) -> Iterator[Batch]:
    """Batches of decoded images, in order; the images of the next batch are decoded meanwhile."""
    waiting = iter(files)
    ahead = [(file, reader.submit(read, file)) for file in islice(waiting, size)]
    while ahead:
        batch: Batch = []
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


def read(file: ImageFile) -> np.ndarray | UserError:
    """RGB uint8 [H, W, 3], or what is wrong with the file."""
    try:
        return open_image(file.path)
    except UserError as error:
        return error


def memory_saving(settings: SegmenterSettings) -> str:
    """The settings that would save memory, as flags; a larger stride is one only where patches overlap."""
    flags = ["a smaller --size", "--window"]
    flags += ["a larger --stride"] * (settings.stride is not None) + ["--refine 0"] * bool(settings.refine)
    flags += ["--precision bf16"] * (settings.precision != "bf16")
    return f"{', '.join(flags[:-1])} or {flags[-1]}"


def segment_batch(
    batch: Batch, query: EncodedQuery, segmenter: Segmenter
) -> list[tuple[ImageFile, np.ndarray | UserError, Segmentation | UserError]]:
    """Segment the readable images together, or one by one where memory does not suffice for all."""
    images = [image for _, image in batch if not isinstance(image, UserError)]
    found: list[Segmentation | UserError] = []
    try:
        found += segmenter.predict_batch(images, query)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) > 1:
            return [outcome for each in batch for outcome in segment_batch([each], query, segmenter)]
        found.append(UserError(f"{batch[0][0].path}: out of memory; try {memory_saving(segmenter.settings)}"))
    results = iter(found)
    return [(file, image, image if isinstance(image, UserError) else next(results)) for file, image in batch]


def write(
    writer: Writer, advice: str, file: ImageFile, image: np.ndarray | UserError, found: Segmentation | UserError
) -> Outcome:
    """Write the files of one image; ``advice`` is for where memory does not suffice."""
    if isinstance(found, UserError) or isinstance(image, UserError):
        return file, found if isinstance(found, UserError) else image  # type: ignore[return-value]
    try:
        with memory_advice(str(file.path), advice):
            return file, writer.write(file.name, file.path, image, found, file.relative or None)
    except UserError as error:
        return file, error
