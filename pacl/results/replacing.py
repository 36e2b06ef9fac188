"""What the results of a run may replace in their folder: neither files of others nor of another folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pacl.errors import ArgumentError
from pacl.images import is_written_here
from pacl.printing import printable
from pacl.results.paths import frame_masks, overlays_of, paths_of
from pacl.results.records import ENDINGS, LOOKED_AT, names_of_files, owner, read_record


def check_free(out: Path, names: Iterable[str], argument: str = "out") -> None:
    """Check that results in subfolders do not replace those of another folder of results.

    Args:
        out: the folder of results.
        names: of the results; the first `LOOKED_AT` in subfolders are checked.
        argument: the caller's name for the folder, in the error.

    Raises:
        ArgumentError: they do.
    """
    nested = (out / f"{name}{ending}" for name in names if "/" in name for ending in ENDINGS)
    for path in islice(nested, 2 * LOOKED_AT):
        record = read_record(path)
        if record and "name" in record and out in (folder := owner(path, record)).parents:
            reason = f"{path} belongs to {folder}, a folder of results of its own; choose another folder"
            raise ArgumentError(argument, out, reason)


def check_replaceable(
    out: Path,
    names: Iterable[str],
    formats: Collection[str],
    labels: Sequence[str],
    argument: str = "out",
    *,
    videos: bool = False,
) -> None:
    """Check that results replace no file that was not written here, or that was changed since.

    Drawings, masks and files for labelme are known by a mark in them, other files by the record that names them.

    Args:
        out: the folder of results.
        names: of the results.
        formats: of the results.
        labels: names of the labels.
        argument: the caller's name for the folder, in the error.
        videos: whether they are results of videos, or else of images.

    Raises:
        ArgumentError: they do.
    """
    for name in names:
        for file in _of_others_at(out, name, formats, labels, videos):
            what = f"has {file.relative_to(out)}, which was not written by pacl or was changed since"
            raise ArgumentError(argument, out, f"{what}; choose another folder, leave that image out or move the file")


def _of_others_at(
    out: Path, name: str, formats: Collection[str], labels: Sequence[str], is_video: bool
) -> Iterator[Path]:
    """The files that are where results are to be written and were not written here, see `check_replaceable`."""
    path = out / (f"{name}.jsonl" if is_video else f"{name}.json")
    record = read_record(path)
    if record is None and os.path.lexists(path):
        yield path
    if is_video:
        target = path.with_suffix("")
        yield from overlays_of(target) if "overlay" in formats and record is None else []
        yield from (mask for mask in frame_masks(target) if "mask" in formats and not is_written_here(mask))
        return
    for kind in formats:
        named = names_of_files(record, kind)
        for file, is_own in paths_of(out, name, kind, labels):
            if os.path.lexists(file) and not (printable(file.name) in named if is_own is None else is_own(file)):
                yield file
