"""Results that are deleted: their files, and the note about them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pacl.images import is_written_here
from pacl.printing import printable
from pacl.results.paths import MASKS, RESULT_ENDING, paths_of, video_files
from pacl.results.records import names_of, names_of_files, records


def own_results(out: Path) -> dict[Path, list[Path]]:
    """All results in a folder: the record of each, or an image without one -> its files.

    Folders of results of their own below it are left out.
    """
    others: set[Path] = set()
    found = {path: files_of(out, path, record) for path, record in records(out, others)}
    of_records = {file for files in found.values() for file in files}
    for image in own_images(out):
        if image not in of_records and others.isdisjoint(image.parents):
            found[image] = [image]
    return found


def own_images(out: Path) -> Iterator[Path]:
    """Drawings and masks in a folder of results that were written here; those without a record, too."""
    for path in out.rglob("*.png"):
        if RESULT_ENDING.search(path.name) and is_written_here(path):
            yield path


def files_of(out: Path, path: Path, record: Mapping[str, Any]) -> list[Path]:
    """The files of one image or video and its record itself; files of data sets belong to their `RunFile`.

    They are looked for from the folder of results, because the paths in the record depend on the folder that the
    command ran in. A file that was changed since is not among them, where that can be told.
    """
    if path.suffix == ".jsonl":
        return [*video_files(path.with_suffix("")), path]
    name, found = path.relative_to(out).as_posix().removesuffix(".json"), []
    for kind in record["files"]:
        names = names_of_files(record, kind)
        for file, is_own in paths_of(out, name, kind, names_of(record) or []):
            if printable(file.name) in names and (is_own is None or is_own(file)):
                found.append(file)
    return [*found, path]


@dataclass
class Removed:
    """What a run has deleted of the results of earlier runs, and has not written anew.

    Attributes:
        images: names of the results.
        files: of single images.
        datasets: files of whole runs that have lost images.
    """

    images: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    datasets: set[Path] = field(default_factory=set)

    def add(self, name: str, files: Iterable[Path] = (), dataset: Path | None = None) -> None:
        """Add results of an image or a video: files that were deleted, and a data set that it was removed from."""
        before = len(self.files)
        self.files.extend(files)
        if dataset is not None:
            self.datasets.add(dataset)
        if dataset is not None or len(self.files) > before:
            self.images.add(name)


def remove(paths: Collection[Path], kept: Collection[Path] = (), below: Path | None = None) -> list[Path]:
    """Delete files and the folders that this leaves empty; what cannot be deleted stays.

    Args:
        paths: of the files.
        kept: those of them that stay; also as they are `printable`, in records.
        below: folders below this one are deleted; None: only those of the masks of a video.

    Returns:
        The files that were deleted.
    """
    spared, deleted = {printable(os.path.abspath(path)) for path in kept}, []
    for path in paths:
        if printable(os.path.abspath(path)) not in spared:
            with suppress(OSError):
                path.unlink()
                deleted.append(path)
    for folder in {path.parent for path in deleted}:
        with suppress(OSError):  # it is not empty
            while folder.suffix == MASKS if below is None else below in folder.parents:
                folder.rmdir()
                folder = folder.parent
    return deleted
