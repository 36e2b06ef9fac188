"""Decoding every image of a source of image-caption pairs, to find those that are missing or broken.

    Source -> `Item` -> `Finding`, in worker processes -> `pacl.data.statistics.Statistics`

Items are streamed: the images of a source are never in memory together.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from pacl.data.image_paths import find_missing, similar_file
from pacl.data.pairs import Description, FilePairs
from pacl.data.sources import Source
from pacl.data.workers import usable
from pacl.errors import ArgumentError, UserError
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.images import decode_image, open_image, pixel_checksum

CHUNK = 8  # images that a process decodes at a time
PROBLEMS = ("missing", "unreadable", "no caption", "broken shard")


@dataclass(frozen=True)
class Item:
    """One image of a source, or a damaged shard.

    Attributes:
        name: its path, or its name in a shard.
        descriptions: its captions, each with its noun phrases if the source knows them.
        content: of the image file, for shards; None for files.
        decode: False only checks that the file exists.
        error: of a damaged shard; there is no image then.
    """

    name: str
    descriptions: Sequence[Description]
    content: bytes | None = None
    decode: bool = True
    error: str | None = None

    def read(self, short_side: int | None = None) -> np.ndarray:
        """The image, uint8 RGB [H, W, 3]; raises a `UserError` if it is missing or broken."""
        if self.content is not None:
            return decode_image(self.content, self.name, short_side=short_side)
        return open_image(self.name, short_side=short_side)


class Finding(NamedTuple):
    """What was found out about an image.

    Attributes:
        problem: one of `PROBLEMS`, or None.
        message: description of the problem, in one line.
        width: in pixels, after applying the EXIF orientation; 0 if it was not decoded.
        height: in pixels.
        digest: 64-bit hash of its pixels.
        seconds: time of decoding.
    """

    problem: str | None = None
    message: str = ""
    width: int = 0
    height: int = 0
    digest: int = 0
    seconds: float = 0.0


# --- Reading ----------------------------------------------------------------------------------------


class Items(NamedTuple):
    """The images of a source.

    Attributes:
        stream: the images, or some of them.
        total: the number of all images; None if it is unknown, for shards without ``size``.
        unused: what else lies in the source and is not read, see `FilePairs`; of shards it is counted as they are read.
    """

    stream: Iterator[Item]
    total: int | None
    unused: dict[str, int]


def read_items(source: Source, pairs: FilePairs | None, limit: int | None = None, decoded: int | None = None) -> Items:
    """The images of a source, held-out ones included.

    Args:
        source: any source.
        pairs: what it reads, see `Source.read`; None for shards.
        limit: number of images to yield, spread evenly over the source; of shards, the first ones. None: all.
        decoded: approximate number of these to decode, spread evenly; of shards of unknown size, every 20th is decoded.
            None: all.

    Raises:
        UserError: an error of `Source.check_settings` or `Source.chosen`, or no image is there; at once, not while
            iterating.
    """
    if pairs is None:
        from pacl.data.shards import shard_urls

        source.check_settings()
        shard_urls(source.pairs)  # raises an error if shards are missing
        known = limit if source.size is None else min(source.size, limit or source.size)
        step = 1 if decoded is None else 20 if known is None else max(1, known // decoded)
        unused: dict[str, int] = {}
        return Items(islice(_shards(source, step, unused), limit), source.size, unused)
    chosen = source.chosen(pairs)
    find_missing(source.pairs, pairs.root, [chosen])
    total = len(chosen)
    count = min(limit or total, total)
    step = 1 if decoded is None else max(1, count // decoded)

    def items() -> Iterator[Item]:
        for number in range(count):
            index = number * total // count
            yield Item(chosen.name(index), chosen.descriptions(index), decode=number % step == 0)

    unused = pairs.unused | {f"images that {source.only} does not list": len(pairs) - total}
    if source.kind in ("table", "json"):
        unused |= {"images that no row names": count_unnamed(pairs)}
    return Items(items(), total, {kind: number for kind, number in unused.items() if number})


def count_unnamed(pairs: FilePairs) -> int:
    """How many images lie in the same folders as those of a source and are not among them."""
    named: dict[str, set[str]] = {}
    for index in range(len(pairs)):
        folder, name = os.path.split(os.path.normpath(pairs.name(index)))
        named.setdefault(folder, set()).add(name)
    return sum(
        PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and name not in names
        for folder, names in named.items()
        if os.path.isdir(folder)
        for name in os.listdir(folder)
    )


def _shards(source: Source, step: int, unused: dict[str, int]) -> Iterator[Item]:
    """The samples of shards, and the errors of damaged shards as items of their own; what is not used is counted."""
    from pacl.data.shards import Unused, samples

    failed: list[str] = []
    found = Unused()
    number = -1
    for number, sample in enumerate(samples(source.pairs, failed, found)):
        yield from _errors(source, failed)
        unused.update(found.kinds())
        described = list(zip(sample.captions, sample.nouns or [()] * len(sample.captions), strict=True))
        yield Item(sample.name, described, sample.image, decode=number % step == 0)
    unused.update(found.kinds())
    if number < 0 and not failed:
        failed.append(f"{source.pairs}: no image in any shard")
    yield from _errors(source, failed)


def _errors(source: Source, failed: list[str]) -> Iterator[Item]:
    while failed:
        yield Item(source.pairs, (), error=failed.pop(0))


def inspect(items: Sequence[Item]) -> list[Finding]:
    """Decode some images; problems are returned, not raised."""
    return [_inspect(item) for item in items]


def _inspect(item: Item) -> Finding:
    if item.error is not None:
        return Finding("broken shard", item.error)
    if item.content is None and not os.path.exists(item.name):
        similar = similar_file(Path(item.name))
        return Finding("missing", f"{item.name} does not exist" + (f"; there is {similar}" if similar else ""))
    if not item.decode and (item.content is not None or os.path.getsize(item.name)):
        return Finding()
    start = time.perf_counter()
    try:
        pixels = item.read()
    except UserError as error:
        return Finding("unreadable", str(error))
    seconds = time.perf_counter() - start
    height, width = pixels.shape[:2]
    digest = int.from_bytes(bytes.fromhex(pixel_checksum(pixels)), "big", signed=True)
    return Finding(None, "", width, height, digest, seconds)


def inspect_all(items: Iterator[Item], workers: int) -> Iterator[tuple[Item, Finding]]:
    """Decode all images of a stream, in order; workers are a few chunks ahead.

    Args:
        items: the stream.
        workers: processes; 0 decodes in this one.

    Raises:
        ArgumentError: ``workers``: a process died.
    """
    chunks = iter(lambda: list(islice(items, CHUNK)), [])
    if workers == 0:
        for chunk in chunks:
            yield from zip(chunk, inspect(chunk), strict=True)
        return
    workers = usable(workers)
    waiting: deque[tuple[list[Item], Future[list[Finding]]]] = deque()
    context = multiprocessing.get_context("spawn")  # forking a process that has threads may hang
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        for chunk in chunks:
            with _interrupts_held():
                waiting.append((chunk, pool.submit(inspect, chunk)))
            if len(waiting) > 4 * workers:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        for done, future in waiting:
            yield from zip(done, future.result(), strict=True)
    except BrokenProcessPool:
        raise ArgumentError("workers", workers, "a worker process died, perhaps out of memory; try fewer") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT during the block; processes that are started in it ignore Ctrl-C, which their parent handles."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
