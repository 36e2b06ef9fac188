"""Data that teach or tell little: held-out images that are also in training or twice, and pairs that are all alike.

Images are the same here if their files have the same bytes. Whether all images are alike, `pacl data check` tells by
their pixels instead, since it decodes them anyway; it may read a sample only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pacl.data.pairs import FilePairs, PairSource
from pacl.data.sources import Source
from pacl.files import file_sha256


def split_all(
    train: Iterable[tuple[Source, FilePairs]], val: Iterable[tuple[Source, FilePairs]]
) -> tuple[list[PairSource], list[PairSource]]:
    """The images of a configuration that train and those that are held out.

    Args:
        train: the training sources, each with its pairs.
        val: the validation sources, likewise.

    Raises:
        UserError: an error of `Source.split` or `Source.validation`.
    """
    parts = [source.split(pairs) for source, pairs in train]
    held = [held for _, held in parts if len(held)]
    held += [source.validation(pairs) for source, pairs in val]
    return [kept for kept, _ in parts], held


def describe_copies(copies: int, held: int) -> str:
    """What `count_copies` found, in a line; ``held``: images that are held out."""
    says = "nothing" if copies == held else "less than it seems"
    return (
        f"{copies:,} of {held:,} held-out images are also in training, under the same or other names: val_recall says "
        f"{says}; delete the copies, or validate on other images"
    )


def describe_twice(twice: int, held: int) -> str:
    """What `count_twice` found, in a line; ``held``: images that are held out."""
    return (
        f"{twice:,} of {held:,} held-out images are copies of others of them, from another source or under another "
        "name: captions of one count as wrong for the other, which lowers val_recall; put the captions in one table, "
        "with one name for each image"
    )


def count_copies(kept: Sequence[PairSource], held: Sequence[PairSource]) -> int:
    """How many held-out images are also in training, as files of the same bytes.

    Only files whose size occurs on both sides are read. Missing files count as nothing.

    Args:
        kept: the training sources.
        held: the held-out ones.
    """
    sizes = _sizes(held)
    if not sizes:
        return 0
    kept_sizes = _sizes(kept, set(sizes.values()))
    digests = set(_digests(kept_sizes))
    common = set(kept_sizes.values())
    names = [name for name in _names(held) if sizes.get(name) in common]
    return sum(digest in digests for digest in _digests(names))


def count_twice(held: Sequence[PairSource]) -> int:
    """How many held-out images are there once more, before them, as files of the same bytes.

    Only files whose size occurs twice are read. Missing files count as nothing.
    """
    sizes = _sizes(held)
    names = [name for name in _names(held) if name in sizes]
    often = Counter(sizes[name] for name in names)
    digests = list(_digests(name for name in names if often[sizes[name]] > 1))
    return len(digests) - len(set(digests))


def find_alike(parts: Sequence[PairSource]) -> str | None:
    """What is the same in all pairs, so that nothing can be learned: "captions" or "images"; None if they differ.

    Reading ends at the first one that differs.
    """
    if sum(map(len, parts)) < 2:
        return None
    if _same(caption for part in parts for i in range(len(part)) for caption, _ in part.descriptions(i)):
        return "captions"
    names = list(_names(parts))
    if _same(_size(name) for name in names) and _same(_digests(names)):
        return "images"
    return None


def describe_alike(alike: str, *, sample: bool = False) -> str:
    """What `find_alike` found, in a line; ``sample``: only a sample of the training data was read."""
    which = "of those that were read" if sample else "that train"
    return f"all {alike} {which} are the same: nothing can be learned from them"


def _same(values: Iterable[object]) -> bool:
    """Whether there are at least two values, and all are the same."""
    values = iter(values)
    first = next(values, None)
    second = next(values, None)
    return first is not None and first == second and all(value == first for value in values)


def _size(name: str) -> int | None:
    """Of a file in bytes; None if there is none."""
    try:
        return os.path.getsize(name)
    except (OSError, ValueError):
        return None


def _names(parts: Sequence[PairSource]) -> Iterator[str]:
    """The names of all images: one is there twice where two parts have it."""
    return (part.name(index) for part in parts for index in range(len(part)))


def _sizes(parts: Sequence[PairSource], wanted: set[int] | None = None) -> dict[str, int]:
    """The size in bytes of each file, or of those files whose size is wanted."""
    sizes = ((name, _size(name)) for name in _names(parts))
    return {name: size for name, size in sizes if size and (wanted is None or size in wanted)}


def _digests(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            with open(name, "rb") as file:
                yield file_sha256(file)
        except OSError:
            continue
