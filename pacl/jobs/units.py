"""The units of a job: shards of images, or parts of a list of image files. One process does a unit as a whole."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from pacl.data.shards import read_shard, shard_urls
from pacl.errors import ArgumentError, UserError
from pacl.images import decode_image, open_image

LIST_SUFFIXES = (".txt", ".lst", ".list")


@dataclass(frozen=True)
class JobImage:
    """An image of a unit.

    Attributes:
        name: its path or, in a shard, "shard.tar/key".
        content: of its file; None where ``name`` is the file.
    """

    name: str
    content: bytes | None = None

    @property
    def path(self) -> Path:
        """The name as a path."""
        return Path(self.name)

    def decode(self) -> np.ndarray | UserError:
        """RGB uint8 [H, W, 3], or what is wrong with the image."""
        try:
            return open_image(self.name) if self.content is None else decode_image(self.content, self.name)
        except UserError as error:
            return error


class Unit(Protocol):
    """What one process does as a whole."""

    @property
    def name(self) -> str:
        """Of its results: letters, digits, "-", "_" and "."; no other unit has it."""

    @property
    def source(self) -> str:
        """Where its images come from."""

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        """Its images, in order; a message is appended for what cannot be read of it."""


@dataclass(frozen=True)
class Shard:
    """A WebDataset shard: a tar file of images."""

    url: str

    @property
    def name(self) -> str:
        """The shard's own name, and a digest of its URL."""
        return unit_name(self.url.rpartition("/")[2], self.url.encode())

    @property
    def source(self) -> str:
        return self.url

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        for sample in read_shard(self.url, 0, problems):
            yield JobImage(sample.name, sample.image)


@dataclass(frozen=True)
class ListPart:
    """Consecutive lines of a list of image files.

    Attributes:
        file: the list.
        first: number of the first line, from 1.
        offset: of the first line in the file, in bytes.
        lines: how many.
        folder: of relative paths.
        digest: of the lines' bytes.
    """

    file: Path
    first: int
    offset: int
    lines: int
    folder: Path
    digest: str

    @property
    def name(self) -> str:
        """The list's own name, the first line's number, and a digest of the lines."""
        return unit_name(f"{self.file.stem}-{self.first:09d}", self.digest.encode())

    @property
    def source(self) -> str:
        return f"{self.file}, lines {self.first} to {self.first + self.lines - 1}"

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            start = codecs.BOM_UTF8 if self.offset == 0 else b""
            for number, line in enumerate(islice(file, self.lines)):
                line = line.removeprefix(start) if number == 0 else line
                if path := line.decode("utf-8", "surrogateescape").strip("\r\n"):
                    yield JobImage(str(self.folder / path))


def unit_name(stem: str, content: bytes) -> str:
    """A name for files, which tells apart units of the same stem by their content."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', stem)[:100]}-{hashlib.sha256(content).hexdigest()[:10]}"


def find_units(source: str, lines: int = 1000, folder: Path | None = None) -> list[Unit]:
    """The units of a job.

    Args:
        source: shards, see `pacl.data.shards.shard_urls`; or a text file of image paths, one on each line.
        lines: of a list, in each unit.
        folder: of relative paths in a list; None: the current one.

    Raises:
        UserError: there are no shards, the package webdataset is missing, or the list cannot be read.
        ArgumentError: the list is empty, or no text in UTF-8.
    """
    if source.lower().endswith(LIST_SUFFIXES):
        return list(_parts(Path(source), lines, folder or Path()))
    units: list[Unit] = [Shard(url) for url in dict.fromkeys(shard_urls(source))]
    return units


def _parts(file: Path, lines: int, folder: Path) -> Iterator[ListPart]:
    try:
        with file.open("rb") as content:
            first, offset = 1, 0
            while part := list(islice(content, lines)):
                if any(b"\0" in line for line in part):
                    reason = "is no text in UTF-8 with the path of an image on each line: it has null bytes"
                    raise ArgumentError("source", file, reason)
                digest = hashlib.sha256(b"".join(part)).hexdigest()
                yield ListPart(file, first, offset, len(part), folder, digest)
                first, offset = first + len(part), offset + sum(map(len, part))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    if first == 1:
        raise ArgumentError("source", file, "is empty; it must have the path of an image on each line")
