"""Data sets that are folders: a copy of each image, a file of labels of the same name, and one file of classes."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pacl.files import atomic_write
from pacl.images import save_image
from pacl.printing import printable
from pacl.results.records import names_of_files, read_record
from pacl.results.removing import remove
from pacl.results.result import ImageResult
from pacl.results.run_file import Run, RunFile

COPY_SUFFIXES = (".jpg", ".png")


class FolderDataset(RunFile[None]):
    """The file of classes of such a data set, which later runs with the same classes extend.

    The labels of each image are files of their own, so this file is written with the first image.
    """

    images: ClassVar[str]
    """The folder of images, relative to that of the results: ``DATASET/FOLDER``."""
    labels: ClassVar[str]
    """The folder of the images' labels, likewise."""
    label_suffix: ClassVar[str]
    """Of the files there."""
    mark: ClassVar[bytes]
    """Stands in the file of classes that is written here."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.dropped: set[str] = set()  # names of images whose labels were deleted, since they mean other classes
        if not self.path.exists() and self._names():
            raise self.refusal(f"has files in {self.labels} and no {self.name} that says what they mean")

    def read(self, content: bytes) -> tuple[list[str], dict[str, None]]:
        """See `RunFile.read`; the images are those that have labels."""
        if self.mark not in content:
            raise ValueError
        return self.read_classes(content), dict.fromkeys(self._names())

    @classmethod
    @abstractmethod
    def read_classes(cls, content: bytes) -> list[str]:
        """Classes of the file of an earlier run; errors as in `RunFile.read`."""

    def key(self, name: str, place: str) -> str:
        """See `RunFile.key`."""
        return name

    def left(self, run: Run) -> set[str]:
        """See `RunFile.left`; here also those that no record names, which were not written here."""
        if run.overwrite:
            return {name for name in self.entries if self._labels_of(name) not in run.earlier}
        return super().left(run)

    def entry(self, item: ImageResult, place: str, record: dict[str, Any]) -> None:
        """See `RunFile.entry`; here it is in files of its own."""

    def merge(self) -> None:
        """See `RunFile.merge`; here the images have files of their own, which are not written again."""

    def add(self, item: ImageResult, place: str, record: dict[str, Any]) -> None:
        """See `RunFile.add`; labels of an earlier run that mean other classes are removed first.

        The copies of their images go, too, until this run writes them: an image without labels is one that shows
        nothing. So does a copy of an earlier image of the name, with the other suffix: the labels are those of one.
        """
        is_first = not self.entries or self.replaced
        super().add(item, place, record)
        copies = [item.path(suffix[1:], self.images) for suffix in COPY_SUFFIXES]
        remove(copies, [Path(file) for files in record["files"].values() for file in files], self.out)
        for name in self.replaced - {item.name}:
            remove([self._labels_of(name), *self._copies_of(name)], below=self.out)
        self.dropped |= self.replaced
        self.replaced = set()
        if is_first:
            self.save()

    def discard(self, name: str, record: Mapping[str, Any]) -> bool:
        """See `RunFile.discard`; here its files are deleted with the others that the record names."""
        return self.name.partition("/")[0] in record["files"] and super().discard(name, record)

    def save_rest(self) -> None:
        """See `RunFile.save_rest`; the classes of what is left, also by other processes, are in the file."""
        if not self._names():
            remove([self.path], below=self.out)

    @classmethod
    def is_in(cls, out: Path) -> bool:
        """Whether an earlier run wrote a data set of this kind to a folder of results."""
        try:
            return cls.mark in (out / cls.name).read_bytes()
        except OSError:
            return False

    def _labels_of(self, name: str) -> Path:
        """The file with the labels of an image."""
        return self.out / self.labels / f"{name}{self.label_suffix}"

    def _copies_of(self, name: str) -> list[Path]:
        """The copy of an image that the record names; none where it is all that is left of the image."""
        record = read_record(self.out / f"{name}.json") or {}
        image = self.out / str(record.get("source", ""))
        if not image.is_file():
            return []
        named = names_of_files(record, self.name.partition("/")[0])
        copies = [self.out / self.images / f"{name}{suffix}" for suffix in COPY_SUFFIXES]
        return [path for path in copies if printable(path.name) in named and path.resolve() != image.resolve()]

    def _names(self) -> list[str]:
        """Names of the images that have labels."""
        folder = self.out / self.labels
        paths = sorted(folder.rglob(f"*{self.label_suffix}"))
        return [path.relative_to(folder).as_posix().removesuffix(self.label_suffix) for path in paths]


def copy_image(item: ImageResult, folder: str) -> Path:
    """Copy the image to ``OUT/FOLDER/NAME`` with the suffix .jpg or .png, and return the path of the copy.

    JPEG and PNG files are copied as they are. Others become PNG files, as they were read: loaders of data sets know few
    suffixes.
    """
    suffix = "" if item.file is None else item.file.suffix.lower().replace(".jpeg", ".jpg")
    if item.file is not None and suffix in COPY_SUFFIXES:
        path = item.path(suffix[1:], folder)
        with atomic_write(path) as temporary:
            shutil.copyfile(item.file, temporary)
    else:
        path = item.path("png", folder)
        save_image(path, item.image)
    return path


def belongs_to(path: Path, datasets: Iterable[type[FolderDataset]]) -> bool:
    """Whether an image lies in a data set that an earlier run wrote."""
    return any(
        dataset.is_in(parent.parent.parent)
        for dataset in datasets
        for parent in path.parents
        if "/".join(parent.parts[-2:]) in (dataset.images, dataset.labels)
    )
