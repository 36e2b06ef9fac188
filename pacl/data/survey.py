"""What a source of captioned pictures holds: every picture decoded in full, every caption counted.

    Source -> Pictures -> Looks, in processes of their own -> Tally -> a dictionary of figures

A source of shards is read as the stream that it is, and nothing here grows by more than some 50 bytes a picture and a
caption, so 30 million pairs can be surveyed.
"""

from __future__ import annotations

import hashlib
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
from pathlib import PurePosixPath
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from pacl.data.pairs import Description
from pacl.data.sources import Source
from pacl.errors import UserError
from pacl.images import decode_image, open_image

CHUNK = 8  # pictures that a process decodes at a time
SAMPLE = 10_000  # captions whose tokens and nouns are counted
SHOWN = 24  # pictures on the contact sheet
CONTEXT = 77  # tokens that CLIP reads of a text, start and end included
WORDS = 100  # most frequent words and nouns that are told
PROBLEMS = ("missing", "unreadable", "no caption", "broken shard")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    Attributes:
        name: its path; what a shard calls it if `content` is there.
        descriptions: its captions, each with the nouns that the source itself knows of it.
        content: the file as it lies in a shard.
        decode: False only looks whether the file is there.
        error: no picture, but what is wrong with a shard here.
    """

    name: str
    descriptions: Sequence[Description]
    content: bytes | None = None
    decode: bool = True
    error: str | None = None

    def read(self, short_side: int | None = None) -> np.ndarray:
        """Its pixels, uint8 RGB [H, W, 3]; raises a `UserError` when it is missing or broken."""
        if self.content is not None:
            return decode_image(self.content, self.name, short_side=short_side)
        return open_image(self.name, short_side=short_side)


class Look(NamedTuple):
    """What was found of a picture.

    Attributes:
        problem: one of `PROBLEMS`, or none.
        message: what is wrong, in one line.
        width: in pixels, as a person sees it; 0 if it was not decoded.
        height: in pixels.
        digest: 64 bits of the hash of its pixels.
        seconds: that decoding took.
    """

    problem: str | None = None
    message: str = ""
    width: int = 0
    height: int = 0
    digest: int = 0
    seconds: float = 0.0


class Reservoir(Generic[Item]):
    """A uniform sample of a stream of unknown length (Vitter 1985, algorithm R), the same one in every run."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.seen, self._rng = size, 0, Random(seed)
        self._kept: list[tuple[int, Item]] = []

    def add(self, item: Item) -> None:
        """Take the next one, or not."""
        self.seen += 1
        if len(self._kept) < self.size:
            self._kept.append((self.seen, item))
        elif (place := self._rng.randrange(self.seen)) < self.size:
            self._kept[place] = (self.seen, item)

    def items(self) -> list[Item]:
        """The sample, in the order of the stream."""
        return [item for _, item in sorted(self._kept, key=lambda each: each[0])]


# --- Reading ----------------------------------------------------------------------------------------


def stream(
    source: Source, limit: int | None = None, decoded: int | None = None
) -> tuple[Iterator[Picture], int | None]:
    """The pictures of a source, held-out ones too, and how many it has in all; None: a stream does not know.

    Args:
        source: any.
        limit: look at so many, spread evenly over the source; of shards the first ones.
        decoded: decode about so many of these, spread evenly; of shards of unknown size every 20th. None: all.

    Raises:
        UserError: what `Source.read` and `Source.split` say, at once.
    """
    if source.kind == "shards":
        from pacl.data.tars import shard_urls

        shard_urls(source.pairs)  # sees now whether they are there
        known = limit if source.size is None else min(source.size, limit or source.size)
        step = 1 if decoded is None else 20 if known is None else max(1, known // decoded)
        return islice(_shards(source, step), limit), source.size
    parts = source.split(source.read())
    total = sum(map(len, parts))
    count = min(limit or total, total)
    step = 1 if decoded is None else max(1, count // decoded)

    def pictures() -> Iterator[Picture]:
        for number in range(count):
            index = number * total // count
            part, index = (parts[0], index) if index < len(parts[0]) else (parts[1], index - len(parts[0]))
            yield Picture(part.name(index), part.descriptions(index), decode=number % step == 0)

    return pictures(), total


def _shards(source: Source, step: int) -> Iterator[Picture]:
    """The samples of shards, and the shards' own troubles where they come up."""
    from pacl.data.tars import samples

    failed: list[str] = []
    for number, sample in enumerate(samples(source.pairs, failed)):
        yield from _troubles(source, failed)
        described = list(zip(sample.captions, sample.nouns or [()] * len(sample.captions), strict=True))
        yield Picture(sample.name, described, sample.image, decode=number % step == 0)
    yield from _troubles(source, failed)


def _troubles(source: Source, failed: list[str]) -> Iterator[Picture]:
    while failed:
        yield Picture(source.pairs, (), error=failed.pop(0))


def look(pictures: Sequence[Picture]) -> list[Look]:
    """Look at some pictures; never raises for one that is bad."""
    return [_look(picture) for picture in pictures]


def _look(picture: Picture) -> Look:
    if picture.error is not None:
        return Look("broken shard", picture.error)
    if picture.content is None and not os.path.exists(picture.name):
        return Look("missing", f"{picture.name} does not exist")
    if not picture.decode and (picture.content is not None or os.path.getsize(picture.name)):
        return Look()
    start = time.perf_counter()
    try:
        pixels = picture.read()
    except UserError as error:
        return Look("unreadable", str(error))
    seconds = time.perf_counter() - start
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(pixels.data, digest_size=8, person=f"{width}x{height}".encode()).digest()
    return Look(None, "", width, height, int.from_bytes(digest, "big", signed=True), seconds)


def looks(pictures: Iterator[Picture], workers: int) -> Iterator[tuple[Picture, Look]]:
    """Look at all pictures of a stream, in order, a few chunks ahead of what is asked for.

    Args:
        pictures: the stream.
        workers: processes; 0 decodes in this one.

    Raises:
        UserError: a process died.
    """
    chunks = iter(lambda: list(islice(pictures, CHUNK)), [])
    if workers == 0:
        for chunk in chunks:
            yield from zip(chunk, look(chunk), strict=True)
        return
    waiting: deque[tuple[list[Picture], Future[list[Look]]]] = deque()
    context = multiprocessing.get_context("spawn")  # threads of whoever calls make a fork hang
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        for chunk in chunks:
            with _interrupts_held():
                waiting.append((chunk, pool.submit(look, chunk)))
            if len(waiting) > 4 * workers:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        for done, future in waiting:
            yield from zip(done, future.result(), strict=True)
    except BrokenProcessPool:
        raise UserError(f"--workers {workers}: a process that decodes died, out of memory perhaps; try fewer") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends. Processes started in it never get one: it is left to their parent."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- Counting ---------------------------------------------------------------------------------------


class Tally:
    """Counts of the pictures looked at so far.

    Attributes:
        problems: picture, problem (of `PROBLEMS`) and message of each.
        shown: some that can be read.
        pixels: 64-bit hashes of the pixels of all that were decoded, int64.
    """

    def __init__(self, seed: int = 0) -> None:
        self.pictures = self.bad = 0
        self.seconds = 0.0
        self.problems: list[tuple[str, str, str]] = []
        self.shown: Reservoir[Picture] = Reservoir(SHOWN, seed)
        self.pixels = array("q")
        self._sizes = array("l")  # width, height, width, height, ...
        self._names = array("q")
        self._captions = array("q")
        self._counts = array("l")  # captions of each picture
        self._lengths = array("l")  # words of each caption
        self._words: Counter[str] = Counter()
        self._sample: Reservoir[Description] = Reservoir(SAMPLE, seed)

    def add(self, picture: Picture, found: Look) -> None:
        """Count one more picture."""
        if found.problem is not None:
            self.problems.append((picture.name, found.problem, found.message))
        if not picture.descriptions and picture.error is None:
            self.problems.append((picture.name, "no caption", f"{picture.name} has no caption"))
        self.bad += found.problem is not None or not picture.descriptions
        if picture.error is not None:
            return
        self.pictures += 1
        # Files are told apart by their names where the folder may move; a shard's keys count from zero in each.
        self._names.append(hash(picture.name if picture.content is not None else PurePosixPath(picture.name).name))
        self._counts.append(len(picture.descriptions))
        for caption, nouns in picture.descriptions:
            words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", caption.lower())
            self._captions.append(hash(caption))
            self._lengths.append(len(words))
            self._words.update(words)
            self._sample.add((caption, nouns))
        if found.width:
            self._sizes.extend((found.width, found.height))
            self.pixels.append(found.digest)
            self.seconds += found.seconds
            self.shown.add(picture)

    def figures(self, side: int = 224) -> dict[str, Any]:
        """All figures, JSON-serialisable; shares are 0 to 1, None where there was nothing to count.

        Args:
            side: pictures with a shorter side than this are told.
        """
        sizes = np.array(self._sizes, dtype=np.int64).reshape(-1, 2)
        problems = Counter(problem for _, problem, _ in self.problems)
        return {
            "pictures": self.pictures,
            "pairs": len(self._captions),
            "captions_per_picture": _spread(self._counts),
            "bad": self.bad,
            "missing": problems["missing"],
            "unreadable": problems["unreadable"],
            "without_caption": problems["no caption"],
            "broken_shards": problems["broken shard"],
            "repeated": {
                "names": _repeated(self._names),
                "pictures": _repeated(self.pixels),
                "captions": _repeated(self._captions),
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
        """Lengths in CLIP's tokens with start and end, and the share of captions that CLIP cuts."""
        from open_clip.tokenizer import SimpleTokenizer

        encode = SimpleTokenizer().encode
        lengths = [len(encode(caption)) + 2 for caption, _ in self._sample.items()]
        spread = _spread(lengths)
        return spread and {**spread, "cut": float((np.array(lengths) > CONTEXT).mean())}

    def _nouns(self) -> dict[str, int] | None:
        """The most frequent nouns: the source's own if it knows them, else what the tagger finds, if it is there."""
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
    """Share of those that an earlier one equals."""
    return 1 - len(np.unique(np.asarray(hashes))) / len(hashes) if len(hashes) else None
