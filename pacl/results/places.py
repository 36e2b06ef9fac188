"""Where images stand in the files of a whole run, and how those of earlier runs lose images."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from pacl.errors import UserError
from pacl.printing import printable
from pacl.results.records import LOOKED_AT, place_of
from pacl.results.result import ImageResult
from pacl.results.run_file import Run, RunFile
from pacl.results.same_image import is_same_source


def choose_place(
    item: ImageResult,
    wanted: str,
    datasets: Collection[RunFile[Any]],
    old: Mapping[str, Any] | None = None,
) -> str:
    """The first place of an image that no other image has in the files of the whole run.

    These are tried: the place in its record, the one that is wanted, its path, and the absolute path, which is taken at
    last, whoever has it.

    Args:
        item: the image.
        wanted: the place that is wanted.
        datasets: the files of the whole run.
        old: the record under the name of its results; it may be of another image.
    """
    own = old if old is not None and is_same_source(old, item.out, item.identity) else None
    places = [] if own is None else [place_of(own)]
    places += [printable(Path(each)) for each in (wanted, item.source, os.path.abspath(item.source))]
    for place in places:
        if all(_is_free(place, item, dataset, own) for dataset in datasets):
            return place
    return places[-1]


def folders_of(images: Iterable[tuple[Path, str]], datasets: Iterable[RunFile[Any]]) -> list[Path]:
    """The folders that the places in files of the whole run start from: a tool looks for all images in one.

    Args:
        images: of the run, each with its place.
        datasets: the files of the whole run; of the earlier images in each, `LOOKED_AT` are looked at.
    """
    every = list(images)
    for dataset in datasets:
        out = Path(os.path.realpath(dataset.out))
        for record in filter(None, map(dataset.record_of, islice(dataset.others, LOOKED_AT))):
            if isinstance(record.get("source"), str):
                every.append((Path(os.path.normpath(out / record["source"])), place_of(record)))
    found: dict[Path, None] = {}
    for path, place in every:
        parts = PurePath(place).parts
        if path.parts[-len(parts) :] == parts and not PurePath(place).is_absolute():
            found[path.parents[len(parts) - 1]] = None
    return list({os.path.realpath(folder): folder for folder in found}.values())


def _is_free(place: str, item: ImageResult, dataset: RunFile[Any], own: Mapping[str, Any] | None) -> bool:
    """Whether a file of the run has no other image at a place; the same image may be there under another name.

    ``own`` is the record of the image itself; the others are as for `choose_place`.
    """
    key = dataset.key(item.name, place)
    if key not in dataset.entries:
        return True
    owner = dataset.owner(key)
    if owner == dataset.text(item.name):
        return True
    record = own if owner is None else dataset.record_of(key)
    return record is not None and place_of(record) == place and is_same_source(record, item.out, item.identity)


@dataclass
class OtherDatasets:
    """The files of earlier runs in a folder that this run does not write: they lose the images that it replaces.

    Attributes:
        out: folder of the results.
        kinds: of the files that this run does not write.
        changed: the files that have lost images.
    """

    out: Path
    kinds: Sequence[type[RunFile[Any]]]
    changed: list[RunFile[Any]] = field(default_factory=list, init=False)

    @cached_property
    def found(self) -> list[RunFile[Any]]:
        """The files that there are."""
        found: list[RunFile[Any]] = []
        for kind in self.kinds:
            with suppress(UserError):  # not written here: it stays
                found.append(kind(Run(self.out, None, {})))
        return found

    def discard(self, name: str, record: Mapping[str, Any]) -> list[Path]:
        """Remove an image from all of them, see `RunFile.discard`, and return the files that had it; see `save`."""
        had = [dataset for dataset in self.found if dataset.discard(name, record)]
        self.changed += [dataset for dataset in had if dataset not in self.changed]
        return [dataset.path for dataset in had]

    def save(self) -> None:
        """Write the files that have lost images; under a lock, since other processes may add theirs.

        Raises:
            UserError: one cannot be written.
        """
        for dataset in self.changed:
            dataset.merge()
            dataset.save_rest()
