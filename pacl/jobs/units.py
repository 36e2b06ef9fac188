"""The units of a job: shards, or parts of a list or folder, of image files. One process does a unit as a whole."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from pacl.data.shards import APART, NOT_UTF8, OTHERS, SHARD_SUFFIXES, Unused, local_path, read_shard, shard_urls
from pacl.errors import ArgumentError, UserError
from pacl.images import decode_image, open_image

LIST_SUFFIXES = (".txt", ".lst", ".list")
TAR = re.compile(r"\.(tar|tgz)(\.|$)", re.IGNORECASE)


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

    @property
    def base(self) -> Path | None:
        """The folder of the relative paths in its images' names or its source; None where there are none."""

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        """Its images, in order; a message is appended for what cannot be read of it."""


@dataclass(frozen=True)
class Shard:
    """A WebDataset shard: a tar file of images."""

    url: str

    @property
    def name(self) -> str:
        """The shard's own name, and a digest of its URL, or of its path wherever the command is started."""
        path = local_path(self.url)
        place = self.url.encode() if path is None else os.fsencode(os.path.realpath(path))
        return unit_name(self.url.rpartition("/")[2], place)

    @property
    def source(self) -> str:
        return self.url

    @property
    def base(self) -> Path | None:
        path = local_path(self.url)
        return None if path is None or path.is_absolute() else Path.cwd()

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        unused = Unused()
        for sample in read_shard(self.url, 0, problems, unused):
            yield JobImage(sample.name, sample.image)
        for kind in (APART, NOT_UTF8, OTHERS):  # as in folders: captions and the like are no images that are missing
            del unused.counts[kind]
        if unused.counts:
            problems.append(unused.describe(self.url))


@dataclass(frozen=True)
class ListPart:
    """Consecutive lines of a list of image files.

    Attributes:
        file: the list.
        first: number of the first line, from 1.
        offset: of the first line in the file, in bytes.
        lines: how many.
        folder: of relative paths; the current one as `Path()`.
        digest: of the lines' bytes.
        is_relative: whether one of the paths is.
    """

    file: Path
    first: int
    offset: int
    lines: int
    folder: Path
    digest: str
    is_relative: bool

    @property
    def name(self) -> str:
        """The list's own name, the first line's number, and a digest of the lines and the folder."""
        place = os.fsencode(os.path.abspath(self.folder)) if self.is_relative else b""
        return unit_name(f"{self.file.stem}-{self.first:09d}", self.digest.encode() + place)

    @property
    def source(self) -> str:
        return f"{self.file}, lines {self.first} to {self.first + self.lines - 1}"

    @property
    def base(self) -> Path | None:
        return Path.cwd() if self.is_relative and not self.folder.is_absolute() else None

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        try:
            with self.file.open("rb") as file:
                file.seek(self.offset)
                lines = list(islice(file, self.lines))
        except OSError as error:
            raise UserError(f"{self.file}: cannot be read ({error.strerror or error})") from None
        if _digest(lines) != self.digest:
            raise UserError(f"{self.file}: has changed since the command began; run it again")
        for path in _paths(lines, self.offset):
            yield JobImage(str(self.folder / path))


@dataclass(frozen=True)
class FolderPart:
    """Consecutive image files of a folder and its subfolders, which are sorted by path.

    Attributes:
        folder: the folder.
        first: number of the first file, from 1.
        paths: of the files.
    """

    folder: Path
    first: int
    paths: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder's own name, the first file's number, and a digest of the folder and the paths in it."""
        place = Path(os.path.abspath(self.folder))  # links are not followed: they are in the names of its images
        files = (bytes(path.relative_to(self.folder)) for path in self.paths)
        return unit_name(f"{place.name}-{self.first:09d}", b"\0".join((bytes(place), *files)))

    @property
    def source(self) -> str:
        return f"{self.folder}, images {self.first} to {self.first + len(self.paths) - 1}"

    @property
    def base(self) -> Path | None:
        return None if self.folder.is_absolute() else Path.cwd()

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        for path in self.paths:
            yield JobImage(str(path))


def unit_name(stem: str, content: bytes) -> str:
    """A name for files, which tells apart units of the same stem by their content."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', stem)[:100]}-{hashlib.sha256(content).hexdigest()[:10]}"


def find_units(source: str, lines: int = 1000, folder: Path | None = None) -> list[Unit]:
    """The units of a job.

    Args:
        source: shards, see `pacl.data.shards.shard_urls`, or a text file of image paths, one on each line.
        lines: of a list, in each unit.
        folder: of relative paths in a list; None: the current one.

    Raises:
        UserError: there are no shards, two have the same name, webdataset is missing, or the list cannot be read, is
            empty or no text.
        ArgumentError: the folder does not exist, has no file of the list's first part, or is given with shards.
    """
    if source.lower().endswith(LIST_SUFFIXES):
        return list(_parts(Path(source), lines, folder))
    if folder is not None:
        raise ArgumentError("images", folder, "is for the relative paths of a list; shards and folders have none")
    urls = list(dict.fromkeys(shard_urls(source)))
    for path in filter(None, map(local_path, urls)):
        if not TAR.search(path.name):
            raise UserError(f"{path}: neither a shard ({', '.join(SHARD_SUFFIXES)}) nor a list (.txt) of image files")
    by_name: dict[str, str] = {}
    for url in urls:
        other = by_name.setdefault(url.rpartition("/")[2], url)
        if other != url:
            reason = "shards of the same name, by which results name their images"
            raise UserError(f"{other}, {url}: {reason}; rename one, or do them apart, each with an --out of its own")
    units: list[Unit] = [Shard(url) for url in urls]
    return units


def folder_units(folder: Path, files: Sequence[Path], lines: int = 1000) -> list[Unit]:
    """The units of image files of a folder and its subfolders, in their order, ``lines`` in each."""
    parts = range(0, len(files), lines)
    return [FolderPart(folder, first + 1, tuple(files[first : first + lines])) for first in parts]


def count_repeated(file: Path) -> int:
    """The number of lines of a list that name an image which an earlier line names.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open("rb") as lines:
            hashes = array("q", map(hash, _paths(lines, 0)))  # 8 bytes for each of millions
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    return len(hashes) - len(np.unique(hashes))


def _digest(lines: list[bytes]) -> str:
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _paths(lines: Iterable[bytes], offset: int) -> Iterator[str]:
    """The paths on lines that begin at an offset of a list."""
    for number, line in enumerate(lines):
        content = line.removeprefix(codecs.BOM_UTF8) if offset == number == 0 else line
        if path := content.decode("utf-8", "surrogateescape").strip("\r\n"):
            yield path


def _parts(file: Path, lines: int, images: Path | None) -> Iterator[ListPart]:
    if images is not None and not images.is_dir():
        raise ArgumentError("images", images, "is no folder")
    # With --images the results have absolute names, and without it the names of the list, see `ListPart.base`.
    folder = Path(os.path.abspath(images)) if images else Path()
    try:
        with file.open("rb") as content:
            first, offset = 1, 0
            while part := list(islice(content, lines)):
                if any(b"\0" in line for line in part):
                    raise UserError(f"{file}: is no text in UTF-8 with the path of an image on each line")
                relative = not all(map(os.path.isabs, _paths(part, offset)))
                found = ListPart(file, first, offset, len(part), folder, _digest(part), relative)
                if first == 1:
                    _check_some_exist(found)
                yield found
                first, offset = first + len(part), offset + sum(map(len, part))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    if first == 1:
        raise UserError(f"{file}: is empty; it must have the path of an image on each line")


def _check_some_exist(part: ListPart) -> None:
    """A list whose files are all missing is read from the wrong folder, and would finish a job of errors alone."""
    paths = [image.path for image in part.images([])]
    if paths and not any(path.exists() for path in paths):
        reason = f"none of the first {len(paths)} files of {part.file} exists, such as {paths[0]}"
        raise ArgumentError("images", part.folder, f"{reason}; name the folder that their paths are relative to")
