"""Statistics of the images of a source and of their captions, for the check of data.

They need about 50 bytes per image and per caption, so 30 million pairs are possible.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from random import Random
from typing import Any, Generic, TypeVar

import numpy as np

from pacl.data.inspection import Finding, Item
from pacl.data.pairs import Description
from pacl.errors import UserError

SAMPLE = 10_000  # captions whose tokens and nouns are counted
SHOWN = 24  # images on the contact sheet
CONTEXT = 77  # maximum number of tokens of CLIP, including start and end
WORDS = 100  # number of most frequent words and nouns in the figures

T = TypeVar("T")


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


class Statistics:
    """Statistics of the images inspected so far.

    Args:
        seed: of the random samples of images and captions.

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
