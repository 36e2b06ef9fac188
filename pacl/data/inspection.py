"""Statistics and problems of a source of image-caption pairs; every image is decoded, every caption counted.

    Source -> `Item` -> `Finding`, in worker processes -> `Statistics` -> a dictionary of figures

Items are streamed, and the statistics need about 50 bytes per image and per caption, so 30 million pairs are possible.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from pacl.data.image_paths import find_missing, similar_file
from pacl.data.pairs import Description, FilePairs
from pacl.data.sources import Source
from pacl.data.workers import usable
from pacl.errors import ArgumentError, UserError
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.images import decode_image, open_image, pixel_checksum

CHUNK = 8  # images that a process decodes at a time
SAMPLE = 10_000  # captions whose tokens and nouns are counted
SHOWN = 24  # images on the contact sheet
CONTEXT = 77  # maximum number of tokens of CLIP, including start and end
WORDS = 100  # number of most frequent words and nouns in the figures
PROBLEMS = ("missing", "unreadable", "no caption", "broken shard")

T = TypeVar("T")


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


class Reservoir(Generic[T]):
    """A uniform random sample of a stream of unknown length (Vitter 1985, algorithm R), determined by the seed."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.seen, self._rng = size, 0, Random(seed)
        self._kept: list[tuple[int, T]] = []

    def add(self, item: T) -> None:
        """Process the next item of the stream."""
        self.seen += 1
        if len(self._kept) < self.size:
            self._kept.append((self.seen, item))
        elif (place := self._rng.randrange(self.seen)) < self.size:
            self._kept[place] = (self.seen, item)

    def items(self) -> list[T]:
        """The sample, in the order of the stream."""
        return [item for _, item in sorted(self._kept, key=lambda each: each[0])]


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


def read_items(source: Source, limit: int | None = None, decoded: int | None = None) -> Items:
    """The images of a source, held-out ones included.

    Args:
        source: any source.
        limit: number of images to yield, spread evenly over the source; of shards, the first ones. None: all.
        decoded: approximate number of these to decode, spread evenly; of shards of unknown size, every 20th is decoded.
            None: all.

    Raises:
        UserError: an error of `Source.check_settings`, `Source.read` or `Source.chosen`, or no image is there; at once,
            not while iterating.
    """
    if source.kind == "shards":
        from pacl.data.shards import shard_urls

        source.check_settings()
        shard_urls(source.pairs)  # raises an error if shards are missing
        known = limit if source.size is None else min(source.size, limit or source.size)
        step = 1 if decoded is None else 20 if known is None else max(1, known // decoded)
        unused: dict[str, int] = {}
        return Items(islice(_shards(source, step, unused), limit), source.size, unused)
    pairs = source.read()
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


# --- Counting ---------------------------------------------------------------------------------------


class Statistics:
    """Statistics of the images inspected so far.

    Attributes:
        images: number of images.
        bad: number of images and shards with a problem.
        problems: name, problem (of `PROBLEMS`) and message of each.
        shown: a random sample of the readable images.
        pixels: 64-bit hashes of the pixels of all decoded images, int64.
        captions: hashes of all captions, int64, which compare within one process.
    """

    def __init__(self, seed: int = 0) -> None:
        self.images = self.bad = 0
        self.seconds = 0.0
        self.problems: list[tuple[str, str, str]] = []
        self.shown: Reservoir[Item] = Reservoir(SHOWN, seed)
        self.pixels = array("q")
        self._sizes = array("l")  # width, height, width, height, ...
        self.captions = array("q")
        self._names = array("q")
        self._repeated_pairs = 0
        self._counts = array("l")  # captions of each image
        self._lengths = array("l")  # words of each caption
        self._words: Counter[str] = Counter()
        self._sample: Reservoir[Description] = Reservoir(SAMPLE, seed)

    def add(self, item: Item, found: Finding) -> None:
        """Count one more image."""
        if found.problem is not None:
            self.problems.append((item.name, found.problem, found.message))
        if not item.descriptions and item.error is None:
            self.problems.append((item.name, "no caption", f"{item.name} has no caption"))
        self.bad += found.problem is not None or not item.descriptions
        if item.error is not None:
            return
        self.images += 1
        # The path of a file is ignored, as its folder may move; keys of shards may repeat in other shards.
        self._names.append(hash(item.name if item.content is not None else PurePosixPath(item.name).name))
        self._counts.append(len(item.descriptions))
        self._repeated_pairs += len(item.descriptions) - len({caption for caption, _ in item.descriptions})
        for caption, nouns in item.descriptions:
            words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", caption.lower())
            self.captions.append(hash(caption))
            self._lengths.append(len(words))
            self._words.update(words)
            self._sample.add((caption, nouns))
        if found.width:
            self._sizes.extend((found.width, found.height))
            self.pixels.append(found.digest)
            self.seconds += found.seconds
            self.shown.add(item)

    def figures(self, side: int = 224) -> dict[str, Any]:
        """All figures, JSON-serialisable; shares are from 0 to 1, and None if there was nothing to count.

        Args:
            side: images whose shorter side is below this count as small.
        """
        sizes = np.array(self._sizes, dtype=np.int64).reshape(-1, 2)
        problems = Counter(problem for _, problem, _ in self.problems)
        return {
            "images": self.images,
            "pairs": len(self.captions),
            "captions_per_image": _spread(self._counts),
            "bad": self.bad,
            "missing": problems["missing"],
            "unreadable": problems["unreadable"],
            "without_caption": problems["no caption"],
            "broken_shards": problems["broken shard"],
            "repeated": {
                "names": _repeated(self._names),
                "images": _repeated(self.pixels),
                "captions": _repeated(self.captions),
                "pairs": self._repeated_pairs / len(self.captions) if self.captions else None,
            },
            "caption_words": _spread(self._lengths),
            "caption_tokens": self._tokens(),
            "width": _spread(sizes[:, 0]),
            "height": _spread(sizes[:, 1]),
            "aspect": _spread(sizes[:, 0] / sizes[:, 1]),
            "small": {"side": side, "share": float((sizes.min(axis=1) < side).mean()) if len(sizes) else None},
            "words": dict(self._words.most_common(WORDS)),
            "nouns": self._nouns(),
            "decoded": len(self.pixels),
            "decoded_per_second": len(self.pixels) / self.seconds if self.seconds else None,
        }

    def _tokens(self) -> dict[str, float] | None:
        """Numbers of CLIP tokens, including start and end, and the share of captions that CLIP truncates."""
        from open_clip.tokenizer import SimpleTokenizer

        encode = SimpleTokenizer().encode
        lengths = [len(encode(caption)) + 2 for caption, _ in self._sample.items()]
        spread = _spread(lengths)
        return spread and {**spread, "cut": float((np.array(lengths) > CONTEXT).mean())}

    def _nouns(self) -> dict[str, int] | None:
        """The most frequent nouns. The tagger finds them, if it is installed, where the source has none itself."""
        sample = self._sample.items()
        find: Callable[[Description], Iterable[str]] = lambda described: described[1]  # noqa: E731
        if not any(own for _, own in sample):
            try:
                from pacl.data.nouns import nouns

                nouns("a dog")
            except (ImportError, UserError):
                return None
            find = lambda described: nouns(described[0])  # noqa: E731
        return dict(Counter(noun for described in sample for noun in find(described)).most_common(WORDS))


def _spread(values: Sequence[float] | np.ndarray | array[int]) -> dict[str, float] | None:
    """Smallest, median, mean and largest."""
    if len(values) == 0:
        return None
    numbers = np.asarray(values)
    low, high = numbers.min().item(), numbers.max().item()
    return {"min": low, "median": float(np.median(numbers)), "mean": float(numbers.mean()), "max": high}


def _repeated(hashes: array[int]) -> float | None:
    """Share of values that are equal to an earlier one."""
    return 1 - len(np.unique(np.asarray(hashes))) / len(hashes) if len(hashes) else None
