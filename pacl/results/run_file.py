"""Files that belong to a whole run, such as a COCO data set of all its images: kept whole, completed by later runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pacl.errors import ArgumentError
from pacl.results.result import ImageResult

WRITER = "pacl"
"""Stands in every file of a run, by which those of other programs are told apart."""

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Run:
    """What is known of a run before its first image.

    Attributes:
        out: folder of the results.
        labels: their names; a label has id 1, 2, ...
        images: name of the results of each image -> the image's path as it is to stand in files.
        background: whether a background rule may leave pixels without a label.
        overwrite: whether results of earlier runs are replaced, whatever they are of.
    """

    out: Path
    labels: Sequence[str]
    images: Mapping[str, str]
    background: bool = False
    overwrite: bool = False


class RunFile(ABC, Generic[Entry]):
    """A file of the whole run, with an entry for each image.

    Images in the file of an earlier run with the same labels stay in it, so that a run over the remaining images
    completes it. With other labels the file is replaced, if all of its images are segmented again.

    Attributes:
        path: of the file.
        classes: names of its classes; by default the labels.
        entries: of each image, in the order of the file.
        replaced: keys of the images of an earlier run with other classes.

    Raises:
        ArgumentError: ``out`` has such a file that this run would spoil: with other labels, and images that are not
            among those of this run, or not written here.
    """

    name: ClassVar[str]
    """Of the file, relative to the folder of results."""

    def __init__(self, run: Run) -> None:
        self.out, self.path = run.out, run.out / self.name
        self.classes = self.classes_of(run)
        self.entries: dict[str, Entry] = {}
        self.replaced: set[str] = set()
        if not self.path.exists():
            return
        try:
            classes, entries = self.read(self.path.read_bytes())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, RecursionError):
            raise self.refusal(f"has a file {self.name} that was not written by this command") from None
        if run.overwrite:
            self.replaced = set(entries)
        elif classes == self.classes:
            self.entries = entries
        elif {self.key(name, place) for name, place in run.images.items()} >= set(entries):
            self.replaced = set(entries)
        else:
            raise self.refusal(f"has a file {self.name} with other labels and other images")

    def refusal(self, reason: str) -> ArgumentError:
        """The error about a folder of results that this run would spoil."""
        return ArgumentError("out", self.out, f"{reason}; choose another folder")

    def files(self) -> list[Path]:
        """The files of the earlier run that this one replaces."""
        return [self.path] if self.replaced else []

    def classes_of(self, run: Run) -> list[str]:
        """Names of the classes.

        Raises:
            UserError: the format cannot hold them.
        """
        return list(run.labels)

    def key(self, name: str, place: str) -> str:
        """What tells an image from the others: here its path as it stands in files, else the name of its results."""
        return place

    def add(self, item: ImageResult, place: str, record: dict[str, Any]) -> None:
        """Add an image, or replace it.

        Args:
            item: the image and its segmentation.
            place: the image's path as it is to stand in files; tools look for it in their folder of images.
            record: of `pacl.results.writer.Writer.write`.
        """
        self.entries[self.key(item.name, place)] = self.entry(item, place, record)

    @abstractmethod
    def read(self, content: bytes) -> tuple[list[str], dict[str, Entry]]:
        """Classes and entries of the file of an earlier run.

        Raises:
            ValueError: it was not written here; also LookupError, TypeError, AttributeError, SyntaxError,
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
