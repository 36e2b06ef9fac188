"""The names of the results of images: unique in a run, and in the folder of results that it joins."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from pacl.errors import ArgumentError
from pacl.image_folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from pacl.results.paths import VIDEO_FRAME
from pacl.results.records import place_of, read_record
from pacl.results.same_image import Identity, is_image_of, is_same_source
from pacl.results.writer import result_name


class Names:
    """Gives each image of a run the name of its results, and a path for files of the whole run.

    Names are compared without case, because some file systems ignore it. An image that has results in the folder keeps
    their name and path.

    Args:
        out: the folder of results of earlier runs that these join; None: there are none, or they are replaced.
    """

    def __init__(self, out: Path | None = None) -> None:
        self.out = out
        self.taken: set[str] = set()

    def add(self, image: Identity, relative: Path, *, is_shared: bool = False) -> tuple[str, str]:
        """The name of an image's results and its path in files of the run, see `pacl.results.writer.Writer.write`.

        Args:
            image: its path, or the checksum of the pixels of one without a file.
            relative: what both are made of: the path in the folder that was given, or the name of the file.
            is_shared: whether another image of the run has the same; both then have their path as given.
        """
        for name in candidates(relative):
            if name.casefold() in self.taken or VIDEO_FRAME.search(name):
                continue
            records = self._records(name)
            if all(is_image_of(each, self.out or Path(), image) for each in records):
                break
        self.taken.add(name.casefold())
        if isinstance(image, str):
            return name, name
        for record in records:
            if is_same_source(record, self.out or Path(), image):
                return name, place_of(record)
        return name, (image if is_shared else relative).as_posix()

    def _records(self, name: str) -> list[dict[str, Any]]:
        if self.out is None:
            return []
        found = (read_record(self.out / f"{name}{ending}") for ending in (".json", ".jsonl"))
        return [record for record in found if record is not None]


def candidates(relative: Path) -> Iterator[str]:
    """Names of results, the first that is free is taken: ``a``, ``a_jpg``, ``a_jpg-2``, ``a_jpg-3`` and so on."""
    is_suffix = relative.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    name = result_name((relative.with_suffix("") if is_suffix else relative).as_posix())
    yield name
    if is_suffix:
        name = f"{name}_{relative.suffix.lstrip('.')}"
        yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def check_name(name: object, argument: str = "name") -> str:
    """A name for the results of an image that a caller gave, with ``/`` between folders.

    Args:
        name: the name.
        argument: the caller's name for it, in the error.

    Raises:
        ArgumentError: it is no text, leads out of the folder of results, or is no name of a file.
    """
    if not isinstance(name, (str, PurePath)):
        raise ArgumentError(argument, f"of type {type(name).__name__}", "must be a text, without a suffix")
    text = name.as_posix() if isinstance(name, PurePath) else name
    shown = repr(text)
    if PurePath(text).anchor or text.startswith("/") or any(part in ("", ".", "..") for part in re.split(_BREAK, text)):
        raise ArgumentError(argument, shown, "must be a name in the folder of results, such as cat or cats/cat")
    try:
        is_file = "\0" not in text and bool(os.fsencode(text))
    except UnicodeEncodeError:
        is_file = False
    if not is_file:
        raise ArgumentError(argument, shown, "has a character that no name of a file has")
    return result_name(text)


_BREAK = re.compile(r"[/\\]" if os.name == "nt" else "/")
