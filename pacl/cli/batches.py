"""Segment many image files in batches: the next are decoded and the last are written while the tower works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from pacl.cli.inputs import ImageFile
from pacl.cli.messages import memory_advice
from pacl.data.workers import usable
from pacl.errors import UserError
from pacl.image_batches import Item, each_or_error, read, read_batches
from pacl.results.writer import Writer

if TYPE_CHECKING:
    from pacl.segmentation.query import EncodedQuery
    from pacl.segmentation.result import Segmentation
    from pacl.segmentation.segmenter import Segmenter
    from pacl.segmentation.settings import SegmenterSettings

Outcome = tuple[Item, "dict[str, Any] | UserError"]
"""An image and the record of its results, or what is wrong with it."""

READERS, WRITERS = 4, 8
"""Threads at most. A GPU takes a few milliseconds for an image; reading its file and writing its results take more."""

Write = Callable[[Item, "np.ndarray", "Segmentation"], "dict[str, Any]"]
"""Writes the results of one image and returns their record; it may raise a `UserError`."""


def segment_files(
    files: Sequence[ImageFile], query: EncodedQuery, segmenter: Segmenter, writer: Writer
) -> Generator[Outcome[ImageFile], None, None]:
    """Segment image files and write their results, see `segment_all`."""

    def save(file: ImageFile, image: np.ndarray, found: Segmentation) -> dict[str, Any]:
        return writer.write(file.name, file.path, image, found, file.relative or None)

    # Data sets have the images in the order of writing, and what an earlier run left goes after the first image.
    writers = 1 if writer.datasets or writer.earlier else usable(WRITERS)
    return segment_all(files, query, segmenter, read, save, usable(READERS), writers)


def segment_all(
    items: Iterable[Item],
    query: EncodedQuery,
    segmenter: Segmenter,
    load: Callable[[Item], np.ndarray | UserError],
    save: Write[Item],
    workers: int = 1,
    writers: int = 1,
) -> Generator[Outcome[Item], None, None]:
    """Segment images from anywhere.

    Args:
        items: the images, not decoded yet.
        query: what to look for, see `Segmenter.prepare`.
        segmenter: at most its ``window_batch`` images go through the tower at once.
        load: decodes an image, RGB uint8 [H, W, 3]; called in other threads.
        save: writes the results of an image; called in other threads.
        workers: threads that decode.
        writers: threads that write; a single one writes one image after another.

    Yields:
        The outcome of each image, in the order of ``items``, once it is written and the next batch has been segmented.
        Where the caller stops, ``close`` waits for images that are being written; those after them are dropped.
    """
    advice = memory_saving(segmenter.settings)
    with ThreadPoolExecutor(writers) as scribe:
        try:
            written: deque[Future[Outcome[Item]]] = deque()
            for batch in read_batches(items, segmenter.settings.window_batch, load, workers):
                found = each_or_error(batch, lambda _, images: segmenter.predict_batch(images, query), advice)
                while written and (len(written) >= writers or written[0].done()):  # the others keep the threads busy
                    yield written.popleft().result()
                written += [scribe.submit(write, save, advice, item, image, each) for item, image, each in found]
            yield from (outcome.result() for outcome in written)
        finally:
            scribe.shutdown(cancel_futures=True)


def memory_saving(settings: SegmenterSettings) -> str:
    """The settings that would save memory, as flags; a larger stride is one only where patches overlap."""
    flags = ["a smaller --size", "--window"]
    flags += ["a larger --stride"] * (settings.stride is not None) + ["--refine 0"] * bool(settings.refine)
    flags += ["--precision bf16"] * (settings.precision != "bf16")
    return f"{', '.join(flags[:-1])} or {flags[-1]}"


def write(
    save: Write[Item], advice: str, item: Item, image: np.ndarray | UserError, found: Segmentation | UserError
) -> Outcome[Item]:
    """Write the results of one image; ``advice`` is for where memory does not suffice."""
    if isinstance(found, UserError) or isinstance(image, UserError):
        return item, found if isinstance(found, UserError) else image  # type: ignore[return-value]
    try:
        with memory_advice(str(item.path), advice):
            return item, save(item, image, found)
    except UserError as error:
        return item, error
