"""Files that belong to a whole run, such as a COCO data set of all its images: kept whole, completed by later runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pacl.errors import ArgumentError
from pacl.files import file_stamp
from pacl.printing import printable
from pacl.results.joining import result_digest
from pacl.results.records import place_of, read_record
from pacl.results.removing import remove
from pacl.results.result import ImageResult
from pacl.results.sharing import difference, refusal

WRITER = "pacl"
"""Stands in every file of a run, by which those of other programs are told apart."""

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Run:
    """What is known of a run before its first image.

    Attributes:
        out: folder of the results.
        labels: their names; a label has id 1, 2, ... None: those of the file, to `RunFile.discard` from.
        images: name of the results of each image -> the image's path as it is to stand in files.
        background: whether a background rule may leave pixels without a label.
        overwrite: whether results of earlier runs are replaced, whatever they are of.
        earlier: their files that are deleted then.
        argument: the caller's name for ``out``, in errors.
    """

    out: Path
    labels: Sequence[str] | None
    images: Mapping[str, str]
    background: bool = False
    overwrite: bool = False
    earlier: Collection[Path] = ()
    argument: str = "out"


class RunFile(ABC, Generic[Entry]):
    """A file of the whole run, with an entry for each image.

    Images in the file of an earlier run with the same labels and model stay in it, so that a run over the remaining
    images completes it. With others the file is replaced, if all of its images are segmented again.

    Attributes:
        path: of the file.
        classes: names of its classes; by default the labels.
        entries: of each image, in the order of the file.
        others: keys of the images of earlier runs that this one does not replace.
        replaced: keys of the images of an earlier run with other classes or by another model.
        touched: keys of the images that this run added, or discarded.

    Raises:
        ArgumentError: ``out`` has such a file that this run would spoil: with other labels, and images that are not
            among those of this run, or not written here. See also `check_model`.
    """

    name: ClassVar[str]
    """Of the file, relative to the folder of results."""

    def __init__(self, run: Run) -> None:
        self.out, self.path, self.argument = run.out, run.out / self.name, run.argument
        self.classes = [] if run.labels is None else self.classes_of(run, run.labels)
        self.entries: dict[str, Entry] = {}
        self.others: set[str] = set()
        self.replaced: set[str] = set()
        self.touched: set[str] = set()
        self._written: dict[str, tuple[Path, Any, str | None]] = {}  # of each added image: its record, as it was then
        self.left_out: list[str] = []  # images of this run whose place another run has taken, see `merge`
        self._model: Mapping[str, Any] = {}
        self._stamp = file_stamp(self.path)
        if not self.path.exists():
            return
        classes, self.entries = self._read()
        self.others = self.left(run)
        if not run.overwrite and (run.labels is None or classes == self.classes):
            self.classes = classes
        elif self.others and classes != self.classes:
            other = self.difference(classes)
            raise self._mixed(f"a file {self.name} with {other} and other images ({min(self.others)})")
        else:
            self.replaced, self.entries = set(self.entries) - self.others, {}

    def _read(self) -> tuple[list[str], dict[str, Entry]]:
        """See `read`; what was not written here, or could not be written so, is a `refusal`."""
        try:
            return self.read(self.path.read_bytes())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, RecursionError):
            reason = f"has a file {self.name} that this command did not write, or another program has changed"
            raise self.refusal(reason) from None

    def left(self, run: Run) -> set[str]:
        """Keys of the images in the file of an earlier run that this one does not replace; another may have a place."""
        if run.overwrite:
            return set()
        own = {self.key(name, place): self.text(name) for name, place in run.images.items()}
        return {key for key in self.entries if key not in own or self.owner(key) not in (own[key], None)}

    def check_model(self, model: Mapping[str, Any]) -> None:
        """Check that the images of earlier runs in the file are by the model of this one, or are replaced.

        Args:
            model: what is known of it, see `pacl.results.sharing.difference`; again when more is.

        Raises:
            ArgumentError: they are by another one, and not all are among the images of this run.
        """
        self._model = model
        if other := self._other_model(self.entries):
            if self.others:
                raise self._mixed(f"a file {self.name} by {other} with other images ({min(self.others)})")
            self.replaced, self.entries = set(self.entries), {}

    def _other_model(self, keys: Iterable[str]) -> str | None:
        """What tells the model that made these entries from that of this run, in words.

        The record of one tells it of all, since every run checks this before it adds an image. It is the last one: a
        run that was killed before it wrote the file has not come to it.
        """
        records = (self.record_of(key) for key in reversed(list(keys)))
        record = next((record for record in records if record is not None), None)
        return None if record is None else difference(record, self._model)

    def record_of(self, key: str) -> dict[str, Any] | None:
        """The record of the image that an entry is of; None if it is not there, or the entry does not say."""
        owner = self.owner(key)
        return None if owner is None else read_record(self.out / f"{owner}.json")

    def _mixed(self, reason: str) -> ArgumentError:
        """See `pacl.results.sharing.refusal`."""
        return refusal(self.argument, self.out, f"has {reason}")

    def merge(self) -> None:
        """Take in what other processes have written to the file since it was read; before `save`, under a lock.

        An image of this run is `left_out` where another run has put another one in its place, or another result.

        Raises:
            ArgumentError: that has other labels, is by another model, or was not written here.
        """
        stale = {key for key, (path, stamp, digest) in self._written.items() if is_replaced(path, stamp, digest)}
        if file_stamp(self.path) == self._stamp and not stale:
            return
        self.touched -= stale  # another run has replaced these results
        theirs: dict[str, Entry] = {}
        if self.path.exists():
            classes, theirs = self._read()
            if classes != self.classes:
                raise self._mixed(
                    f"a file {self.name} that another run wrote with {self.difference(classes)} meanwhile"
                )
        own = {key: entry for key, entry in self.entries.items() if key in self.touched}
        owners = {key: self.owner(key) for key in own}
        self.entries = theirs
        if other := self._other_model([key for key in theirs if key not in self.touched | self.replaced]):
            raise self._mixed(f"a file {self.name} to which another run added images by {other} meanwhile")
        taken = {key for key in own.keys() & theirs.keys() if self.owner(key) not in (owners[key], None)}
        self.left_out += sorted(taken | (stale - theirs.keys()))
        self.touched -= taken
        own = {key: entry for key, entry in own.items() if key not in taken}
        gone = (self.touched | self.replaced) - own.keys()
        self.entries = {key: entry for key, entry in theirs.items() if key not in gone} | own

    def refusal(self, reason: str) -> ArgumentError:
        """The error about a folder of results that this run would spoil."""
        return ArgumentError(self.argument, self.out, f"{reason}; choose another folder")

    def files(self) -> list[Path]:
        """The files of the earlier run that this one replaces."""
        return [self.path] if self.replaced else []

    def classes_of(self, run: Run, labels: Sequence[str]) -> list[str]:
        """Names of the classes for the labels of a run.

        Raises:
            UserError: the format cannot hold them.
        """
        return list(labels)

    def difference(self, classes: Sequence[str]) -> str:
        """What tells other classes in the file of an earlier run from those of this one, in words."""
        return "other labels"

    def key(self, name: str, place: str) -> str:
        """What tells an image from the others: here its path as it stands in files, else the name of its results."""
        return self.text(place)

    def text(self, name: str) -> str:
        """A name or a path with escapes for what the file cannot hold."""
        return printable(name)

    def owner(self, key: str) -> str | None:
        """The name of the results that an entry is of, see `text`; None: it is of a version that did not say."""
        return self.text(key)

    def discard(self, name: str, record: Mapping[str, Any]) -> bool:
        """Remove the entry of an image, unless it is another's, and return whether there was one; see `save_rest`.

        Args:
            name: of the image's results.
            record: their record.
        """
        key = self.key(name, place_of(record))
        if key not in self.entries or self.owner(key) not in (self.text(name), None):
            return False
        del self.entries[key]
        self.touched.add(key)
        return True

    def save_rest(self) -> None:
        """Write the file after `discard` and `merge`; one that is left without images is deleted.

        Raises:
            UserError: it cannot be written.
        """
        if self.entries:
            self.save()
        else:
            remove([self.path], below=self.out)

    def add(self, item: ImageResult, place: str, record: dict[str, Any]) -> None:
        """Add an image, or replace it.

        Args:
            item: the image and its segmentation.
            place: the image's path as it is to stand in files; tools look for it in their folder of images.
            record: of `pacl.results.writer.Writer.write`.
        """
        key = self.key(item.name, place)
        self.entries[key] = self.entry(item, place, record)
        path = item.path("json")
        self._written[key] = path, file_stamp(path), result_digest(record)
        self.touched.add(key)

    @abstractmethod
    def read(self, content: bytes) -> tuple[list[str], dict[str, Entry]]:
        """Classes and entries of the file of an earlier run.

        Raises:
            ValueError: it was not written here, or not so; also LookupError, TypeError, AttributeError, SyntaxError,
                RecursionError.
        """

    @abstractmethod
    def entry(self, item: ImageResult, place: str, record: dict[str, Any]) -> Entry:
        """What the file holds of an image, see `add`."""

    @abstractmethod
    def save(self) -> None:
        """Write the file, atomically.

        Raises:
            UserError: it cannot be written.
        """


def is_replaced(path: Path, stamp: tuple[int, int] | None, digest: str | None) -> bool:
    """Whether a record is of another result by now, or gone; ``stamp`` and ``digest`` are those that it had."""
    return file_stamp(path) != stamp and result_digest(read_record(path)) != digest


def unique(entries: Iterable[tuple[str, Entry]]) -> dict[str, Entry]:
    """Entries by their keys.

    Raises:
        ValueError: two have the same key.
    """
    found: dict[str, Entry] = {}
    for key, entry in entries:
        if found.setdefault(key, entry) is not entry:
            raise ValueError
    return found
