"""The names of the results of images: unique in a run, and in the folder of results that it joins."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from pacl.errors import ArgumentError
from pacl.image_folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from pacl.results.formats import result_name
from pacl.results.paths import VIDEO_FRAME
from pacl.results.records import ENDINGS, owner, place_of, read_record
from pacl.results.same_image import Identity, is_image_of, is_same_source
from pacl.results.sharing import refusal


class Names:
    """Gives each image of a run the name of its results, and a path for files of the whole run.

    Names are compared without case, because some file systems ignore it. An image that has results in the folder keeps
    their name and path, also where these were made from another folder: with `photos/garden/cat.jpg` alone it is still
    ``garden/cat`` after a run on `photos`.

    Args:
        out: the folder of results of earlier runs that these join; None: there are none, or they are replaced.
    """

    def __init__(self, out: Path | None = None) -> None:
        self.out = out
        self.taken: set[str] = set()
        self._seen: set[Path] = set()  # of records that were read
        self._of_source: dict[str, tuple[str, str]] = {}  # name and place by the image's real path

    def add(self, image: Identity, relative: Path, *, is_shared: bool = False) -> tuple[str, str]:
        """The name of an image's results and its path in files of the run, see `pacl.results.writer.Writer.write`.

        Args:
            image: its path, or the checksum of the pixels of one without a file.
            relative: what both are made of: the path in the folder that was given, or the name of the file.
            is_shared: whether another image of the run has the same; both then have their path as given.

        Raises:
            ArgumentError: an earlier run named the image from a folder further in: data sets would have it twice, or
                another image under its path.
        """
        for name in candidates(relative):
            if name.casefold() in self.taken or VIDEO_FRAME.search(name):
                continue
            records = self._records(name)
            if all(is_image_of(each, self.out or Path(), image) for each in records):
                break
        if isinstance(image, str):
            place = name
        elif own := next((each for each in records if is_same_source(each, self.out or Path(), image)), None):
            place = place_of(own)
        elif earlier := self._named_elsewhere(image, relative):
            name, place = earlier
        else:
            place = (image if is_shared else relative).as_posix()
        self.taken.add(name.casefold())
        return name, place

    def _named_elsewhere(self, image: Path, relative: Path) -> tuple[str, str] | None:
        """The name and path of an image that an earlier run named from another folder; errors as in `add`."""
        if self.out is None:
            return None
        for key in _last_parts(relative):
            for path in map(Path, self._listed.pop(key, ())):
                if path not in self._seen:
                    self._read(path)
        earlier = self._of_source.get(os.path.realpath(image)) if self._of_source else None
        if earlier is None:
            return None
        if earlier[1].count("/") < len(relative.parts) - 1:
            reason = f"holds results of {image} as {earlier[0]}, by a run on that image or its own folder"
            raise refusal("out", self.out, reason)
        return None if earlier[0].casefold() in self.taken else earlier

    @cached_property
    def _listed(self) -> dict[str, list[str]]:
        """Paths of what may be records, by the last part of their names, with and without its number.

        The folder is listed once, and only records whose names an image may have are read: it may hold many thousands.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for folder, _, files in os.walk(self.out or ""):
            for file in files:
                if file.endswith(ENDINGS):
                    name = file.rpartition(".")[0].casefold()
                    for key in {name, _NUMBER.sub("", name)}:
                        found[key].append(f"{folder}{os.sep}{file}")
        return found

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Read a record and remember whose it is, but not of a name that a caller gave, such as ``cat-1``."""
        self._seen.add(path)
        record = read_record(path)
        if record is not None and self.out is not None and owner(path, record) == self.out:
            name, place = path.relative_to(self.out).with_suffix("").as_posix(), place_of(record)
            if isinstance(record.get("source"), str) and _is_made_from(name, place):
                self._of_source.setdefault(os.path.realpath(self.out / record["source"]), (name, place))
        return record

    def _records(self, name: str) -> list[dict[str, Any]]:
        if self.out is None:
            return []
        found = (self._read(self.out / f"{name}{ending}") for ending in ENDINGS)
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


def _is_made_from(name: str, place: str) -> bool:
    """Whether a name is one of the `candidates` of the end of a path; else a caller gave it."""
    parts = PurePath(place).parts[-1 - name.count("/") :]
    first, second, third = itertools.islice(candidates(Path(*parts)), 3)
    stem, _, number = name.rpartition("-")
    is_numbered = f"{stem}-2" == third and number.isdecimal() and int(number) > 1
    return len(parts) == name.count("/") + 1 and (name in (first, second) or is_numbered)


def _last_parts(relative: Path) -> set[str]:
    """What names of an image's results may end in, without number, whatever folder they are made from."""
    paths = (Path(relative.name), Path("folder", relative.name))  # only the first may be one of `RUN_FILES`
    names = [name for path in paths for name in itertools.islice(candidates(path), 2)]
    return {name.rpartition("/")[2].casefold() for name in names}


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


_NUMBER = re.compile(r"-\d+$")
_BREAK = re.compile(r"[/\\]" if os.name == "nt" else "/")
