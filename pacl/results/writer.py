"""Writes the results of the images of a run: their files, and the JSON record of each."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pacl.errors import UserError, first_few
from pacl.files import save_json, write_together
from pacl.images import pixel_checksum
from pacl.printing import printable
from pacl.results.coco import box, rles
from pacl.results.formats import FORMATS
from pacl.results.joining import is_same_result, join
from pacl.results.places import OtherDatasets, choose_place
from pacl.results.records import place_of, read_record
from pacl.results.removing import Removed, files_of, own_results, remove
from pacl.results.result import ImageResult, Result
from pacl.results.run_file import Run, RunFile
from pacl.results.same_image import PlaceTaken, check_name_is_free, source_from

LOCK = ".lock"
"""File in the folder of results that a process holds while it writes the files of the whole run."""


class Writer:
    """Writes the results of every image of a run in the same formats.

    Attributes:
        out: folder of the results.
        formats: keys of `pacl.results.formats.FORMATS`.
        model: description of the model for the records; what is known only later, `set_model` adds.
        overwrite: delete the results of earlier runs in the folder as soon as the first result of this one is written.
        argument: the caller's name for ``out``, in errors.
        earlier: files that `overwrite` deletes then.
        replaced: what these files are: records, and images without one.
        datasets: the files of the whole run.
        background: whether a background rule may leave pixels without a label, see `start`.
        written: names of the images and videos whose results are complete.
        removed: what has been deleted of results with other prompts or settings, or of another image.
    """

    def __init__(
        self,
        out: Path,
        formats: Collection[str],
        model: dict[str, Any],
        overwrite: bool = False,
        argument: str = "out",
    ) -> None:
        self.out, self.formats, self.model = out, formats, model
        self.overwrite, self.argument = overwrite, argument
        self.earlier: list[Path] = []
        self.replaced: list[Path] = []
        self.datasets: dict[str, RunFile[Any]] = {}
        self.background = False
        self.written: set[str] = set()
        self.removed = Removed()
        self._turn = threading.Lock()

    def start(self, labels: Sequence[str], images: Mapping[str, str], background: bool = False) -> None:
        """Prepare the files of the whole run, such as ``annotations.json``; without this call none is written.

        Args:
            labels: names of the labels.
            images: name of the results of each image -> the image's path in those files.
            background: whether a background rule may leave pixels without a label.

        Raises:
            UserError: such a file of an earlier run does not go with these labels, images and model, or a format cannot
                hold them.
        """
        self.background = background
        places = {name: printable(Path(place)) for name, place in images.items()}
        found = own_results(self.out) if self.overwrite else {}
        self.earlier.extend(file for files in found.values() for file in files)
        self.replaced.extend(found)
        run = Run(self.out, labels, places, background, self.overwrite, frozenset(self.earlier), self.argument)
        for key, each in FORMATS.items():
            if each.dataset and key in self.formats:
                self.datasets[key] = each.dataset(run)
            elif each.dataset and self.overwrite:
                with suppress(UserError):  # not written here, or others' labels need it: it stays
                    self.earlier.extend(each.dataset(replace(run, labels=None, images={})).files())
        self.set_model({})

    def set_model(self, model: Mapping[str, Any]) -> None:
        """Add to the description of the model, after `start` and before the first image.

        Raises:
            ArgumentError: a file of the whole run has images by another model, see `RunFile.check_model`.
        """
        self.model.update(model)
        for each in self.datasets.values():
            each.check_model(self.model)

    def finish(self) -> dict[str, Path]:
        """Write the files of the whole run, with the images so far, and return the path of each format's.

        Images that other processes have added to these files stay in them.

        Raises:
            PlaceTaken: another process has put other images in the places of some of this run: all others are in it.
            UserError: a file cannot be written, or another process has written it with other labels or by another
                model.
        """
        filled = {key: each for key, each in self.datasets.items() if each.entries}
        if filled or self.others.changed:
            from pacl.locks import lock  # many commands never need it

            with lock(self.out / LOCK, "two runs that end at once may lose entries of data sets", wait=math.inf):
                for each in filled.values():
                    each.merge()
                    each.save()
                self.others.save()
        for each in filled.values():
            if each.left_out:
                reason = f"{each.name} lacks {first_few(each.left_out)}, which another run has replaced meanwhile"
                raise PlaceTaken(self.argument, self.out, f"{reason}; run the command again")
        return {key: each.path for key, each in filled.items()}

    def write(
        self,
        name: str,
        path: Path,
        image: np.ndarray,
        found: Result,
        place: str | None = None,
        *,
        pixels: str | None = None,
        replace: bool = False,
    ) -> dict[str, Any]:
        """Write the files of one image, all or none of them, and return its record.

        Files of an earlier result, with other labels, settings or another model, are deleted, and its entries in data
        sets of earlier runs. Several threads may write images at once where there are neither `datasets`, which have
        them in the order of these calls, nor `earlier` files.

        Args:
            name: of its files, without a suffix.
            path: of the image.
            image: RGB uint8 [H, W, 3].
            found: its segmentation.
            place: of the image in the files of the whole run; None: the name of its file. Where another image has that
                place in one of them, it is ``path``, and at last the absolute one.
            pixels: the `pacl.images.pixel_checksum` of an image without a file; its record has this in place of a path.
            replace: whether those of another image that has the name are deleted, too, as with `overwrite`.

        Returns:
            The record: JSON-serialisable, and the same for the same image, prompts and model. It also has what earlier
            runs wrote of the same result in other formats.

        Raises:
            NameTaken: another image has the name.
            UserError: a file cannot be written.
        """
        item = ImageResult(self.out, name, path, image, found, pixels, self.background)
        record_path = item.path("json")
        old = read_record(record_path)
        place = choose_place(item, place or path.name, self.datasets.values(), old)
        with ExitStack() as turn:
            with write_together():
                record = self._write(item, place, None if self.overwrite else old)
                turn.enter_context(self._turn)  # what follows concerns other images, too
                if not (replace or self.overwrite):  # as late as can be, since other runs may write to the folder
                    check_name_is_free(self.out / name, self.out, path, pixels)
            kept = [Path(file) for files in record["files"].values() for file in files]
            self.remove_earlier(kept)
            if old is not None and not is_same_result(old, record):
                for dataset_path in self.others.discard(name, old):  # of those that `remove_earlier` has left
                    self.removed.add(name, dataset=dataset_path)
                self.removed.add(name, remove(files_of(self.out, record_path, old), kept, self.out))
            for dataset in self.datasets.values():
                if old is not None and dataset.key(name, place_of(old)) != dataset.key(name, place):
                    dataset.discard(name, old)
                dataset.add(item, place, record)
            self.written.add(name)
            return record

    @cached_property
    def others(self) -> OtherDatasets:
        """The files of earlier runs in other formats."""
        kinds = [each.dataset for key, each in FORMATS.items() if each.dataset and key not in self.formats]
        return OtherDatasets(self.out, kinds)

    def remove_earlier(self, kept: Collection[Path]) -> None:
        """Delete what `overwrite` replaces, once; ``kept`` are files of this run."""
        remove(self.earlier, kept, self.out)
        self.earlier.clear()

    def _write(self, item: ImageResult, place: str, old: Mapping[str, Any] | None) -> dict[str, Any]:
        """See `write`; what there is of the same result, by the record ``old``, stays in its record."""
        found = item.found
        formats = {key: each for key, each in FORMATS.items() if key in self.formats}
        files = {key: [printable(file) for file in each.write(item)] for key, each in formats.items() if each.write}
        entries = {key: each.entry for key, each in formats.items() if each.entry}
        record_path = item.path("json")  # in every format: it says whose labels the others have
        files["json"] = [printable(record_path)]
        described = describe(printable(item.source), found, self.model, entries, files)
        record = {
            "name": printable(item.name),
            **({} if place == item.source.name else {"place": place}),
            **({"pixels": item.pixels} if item.pixels else {"source": source_from(self.out, item.source)}),
            "content": pixel_checksum(item.image),
            **described,
        }
        if old is not None and is_same_result(old, record):
            record = join(self.out, record_path, old, record)
        save_json(record_path, record, rows=True)  # last: once it exists, the other files are complete
        return record


def describe(
    source: str,
    found: Result,
    model: Mapping[str, Any],
    entries: Mapping[str, Callable[[dict[str, Any]], Any]],
    files: Mapping[str, list[str]],
) -> dict[str, Any]:
    """The JSON-serialisable record of an image.

    Args:
        source: its path, see `printable`.
        found: its segmentation.
        model: description of the model.
        entries: what the record holds of each label besides share, score and box: `entry` of formats by their names.
        files: paths of the files that were written of it, by format.
    """
    height, width = found.index.shape
    return {
        "image": source,
        "width": width,
        "height": height,
        "model": dict(model),
        "settings": {**dataclasses.asdict(found.settings), **found.contents},
        "background": {"rule": found.background, "share": float((found.index == 0).mean())},
        "labels": _labels(found, entries),
        "files": dict(files),
    }


def _labels(found: Result, entries: Mapping[str, Callable[[dict[str, Any]], Any]]) -> list[dict[str, Any]]:
    """The record of each label: its share of the pixels, its mean score (None if not finite), its box, its masks."""
    return [
        {
            "label": label,
            "id": i + 1,
            "prompts": list(found.prompts[i]),
            "share": found.shares[i],
            "score": found.scores[i] if math.isfinite(found.scores[i]) else None,
            "box": box(rle),
            **{key: entry(rle) for key, entry in entries.items()},
        }
        for i, (label, rle) in enumerate(zip(found.labels, rles(found.index, len(found.labels)), strict=True))
    ]
