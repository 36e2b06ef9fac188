"""Image-caption pairs: the interface `PairSource`, image files with captions, subsets and the hold-out split.

Each caption comes with its noun phrases. Some sources know them (class names, rendered scenes); for the others, a
part-of-speech tagger finds them (`pacl.data.nouns`).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from pacl.images import open_image

Description = tuple[str, Sequence[str]]
"""A caption and its noun phrases."""


class PackedStrings:
    """An immutable list of strings: one UTF-8 buffer plus offsets, 8 bytes per string.

    A Python list needs about 60 bytes more per string, and forked worker processes copy its memory pages, because
    reference counting writes to them. Lone surrogates (in file names that are not UTF-8) are preserved.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]  # resolves negative indices, raises IndexError
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes().decode("utf-8", "surrogatepass")

    def digest(self) -> bytes:
        """SHA-256 of all strings."""
        return hashlib.sha256(self._ends.tobytes() + self._bytes.tobytes()).digest()


class PairSource(Protocol):
    """Images with captions, accessed by index."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The image's name, for messages."""

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        """The image, uint8 RGB [H, W, 3].

        Args:
            index: of the image.
            short_side: a large JPEG may be decoded at a reduced size whose shorter side is at least this; None
                decodes it at full size.

        Raises:
            UserError: the image is missing or broken.
        """

    def descriptions(self, index: int) -> Sequence[Description]:
        """All captions of the image, each with its noun phrases; empty if it has no caption."""


class FilePairs:
    """Image files with captions. A `PairSource`.

    Args:
        root: folder that the paths are relative to.
        captions: the captions of each path.
        nouns: the noun phrases of each caption, if the source knows them.
        unused: what else lies in the source and is not read: how many of each kind.

    Attributes:
        root: as above.
        unused: as above, without kinds that do not occur.
        paths: n paths.
        captions: the captions of all images, in the order of the paths.
        first: int64 [n + 1]; image i has captions first[i] to first[i + 1] - 1.
        nouns: the noun phrases of each caption, tab-separated; None if they have not been computed yet.
        listed: for the file of a list of images that was read with them, the indices of these images, int64.
    """

    def __init__(
        self,
        root: Path,
        captions: dict[str, list[str]],
        nouns: dict[str, Sequence[str]] | None = None,
        unused: Mapping[str, int] | None = None,
    ) -> None:
        self.root = root
        self.unused = {kind: count for kind, count in (unused or {}).items() if count}
        self.paths = PackedStrings(captions)
        self.captions = PackedStrings(caption for own in captions.values() for caption in own)
        self.first = np.cumsum([0, *(len(own) for own in captions.values())], dtype=np.int64)
        self.listed: dict[str, np.ndarray] = {}
        self.nouns: PackedStrings | None = None
        if nouns is not None:
            self.set_nouns([nouns[caption] for own in captions.values() for caption in own])

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return open_image(self.root / self.paths[index], short_side=short_side)

    def descriptions(self, index: int) -> list[Description]:
        own = range(self.first[index], self.first[index + 1])
        return [(self.captions[i], self._nouns(i)) for i in own]

    def _nouns(self, caption: int) -> tuple[str, ...]:
        return tuple(filter(None, self.nouns[caption].split("\t"))) if self.nouns else ()

    def digest(self) -> bytes:
        """SHA-256 of all paths below `root` and all captions."""
        return hashlib.sha256(self.paths.digest() + self.captions.digest() + self.first.tobytes()).digest()

    def set_nouns(self, nouns: Iterable[Sequence[str]]) -> None:
        """Set the noun phrases of every caption, in the order of `captions`."""
        self.nouns = PackedStrings("\t".join(phrases) for phrases in nouns)


class Subset:
    """Some images of a source. A `PairSource`.

    Args:
        source: the full source.
        indices: of the selected images, in their new order.
    """

    def __init__(self, source: PairSource, indices: Sequence[int] | np.ndarray) -> None:
        self.source, self.indices = source, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return self.source.image(int(self.indices[index]), short_side)

    def descriptions(self, index: int) -> Sequence[Description]:
        return self.source.descriptions(int(self.indices[index]))

    def digest(self) -> bytes:
        """SHA-256 of the selection, and of the full source if it is one of files."""
        whole = self.source.digest() if isinstance(self.source, (FilePairs, Subset)) else b""
        return hashlib.sha256(self.indices.tobytes() + whole).digest()


def hold_out(source: PairSource, count: int) -> tuple[Subset, Subset]:
    """Split into a training set and ``count`` held-out images, independently of the order of the source.

    The images whose file names have the smallest SHA-256 are held out, so that every run on every machine has the same
    split, wherever the folder lies. A file name that several images have tells too little: all "front.jpg" would be
    held out. Of these images the path below the folder that all images have in common is hashed.
    """
    names = [source.name(index) for index in range(len(source))]
    often = Counter(PurePosixPath(name).name for name in names)
    common = _common_folder(names)

    def rank(index: int) -> tuple[bytes, str]:
        last = PurePosixPath(names[index]).name
        part = last if often[last] == 1 else names[index][len(common) :].lstrip("/")
        return hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest(), names[index]

    order = sorted(range(len(source)), key=rank)
    return Subset(source, sorted(order[count:])), Subset(source, sorted(order[:count]))


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all these paths have in common; empty if there is none."""
    try:
        return os.path.commonpath([min(names), max(names)])  # what these two begin with, all between them do
    except ValueError:  # no names, or absolute ones beside relative ones
        return ""
