"""Output formats of segmentation: the files of an image and its JSON record."""

from __future__ import annotations

import dataclasses
import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacl.files import atomic_write, save_json, write_together
from pacl.images import save_image
from pacl.results.coco import box, polygons_of_rle, rles
from pacl.results.coco_dataset import DATASET_FILE, CocoDataset
from pacl.results.overlay import heat_map, overlay, score_limits
from pacl.results.palette import save_mask

if TYPE_CHECKING:
    from pacl.segmentation.segmenter import Segmentation


@dataclass(frozen=True)
class Writer:
    """Writes the results of every image of a run in the same formats.

    Attributes:
        out: folder of the results.
        formats: keys of `FORMATS`.
        model: description of the model for the records.
    """

    out: Path
    formats: Collection[str]
    model: dict[str, Any]
    datasets: list[CocoDataset] = field(default_factory=list, init=False, repr=False)

    def start(self, labels: Sequence[str], images: Sequence[str]) -> None:
        """Prepare the files of the whole run, such as ``annotations.json``; without this call none is written.

        Args:
            labels: names of the labels.
            images: names of the images in those files.

        Raises:
            UserError: such a file of an earlier run does not go with these labels and images.
        """
        names = [printable(Path(image)) for image in images]
        for key, each in FORMATS.items():
            if each.dataset and key in self.formats:
                self.datasets.append(each.dataset(self.out, labels, names))

    def finish(self) -> list[Path]:
        """Write the files of the whole run, with the images so far, and return their paths.

        Raises:
            UserError: a file cannot be written.
        """
        return [each.save() for each in self.datasets if each.images]

    def write(
        self, name: str, path: Path, image: np.ndarray, found: Segmentation, place: str | None = None
    ) -> dict[str, Any]:
        """Write the files of one image, all or none of them, and return its record.

        Args:
            name: of its files, without a suffix.
            path: of the image.
            image: RGB uint8 [H, W, 3].
            found: its segmentation.
            place: of the image in the files of the whole run; None: the name of its file.

        Returns:
            The record: JSON-serialisable, and the same for the same image, prompts and model.

        Raises:
            UserError: a file cannot be written.
        """
        with write_together():
            record = self._write(name, path, image, found)
        for dataset in self.datasets:
            dataset.add(printable(Path(place or path.name)), record, found.index)
        return record

    def _write(self, name: str, path: Path, image: np.ndarray, found: Segmentation) -> dict[str, Any]:
        formats = {key: each for key, each in FORMATS.items() if key in self.formats}
        prefix = self.out / name
        files = {
            key: [printable(file) for file in each.write(prefix, image, found)]
            for key, each in formats.items()
            if each.write
        }
        entries = {key: each.entry for key, each in formats.items() if each.entry}
        record_path = _with_ending(prefix, "json")
        if entries:
            files["json"] = [printable(record_path)]
        height, width = found.index.shape
        record = {
            "image": printable(path),
            "width": width,
            "height": height,
            "model": self.model,
            "settings": dataclasses.asdict(found.settings),
            "background": {"rule": found.background, "share": float((found.index == 0).mean())},
            "labels": _labels(found, entries),
            "files": files,
        }
        if entries:  # last: once it exists, the other files are complete
            save_json(record_path, record)
        return record


def printable(path: Path) -> str:
    """A path as text for files and terminals; bytes that are not UTF-8 are written as escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _labels(found: Segmentation, entries: dict[str, Callable[[dict[str, Any]], Any]]) -> list[dict[str, Any]]:
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


# --- Formats ----------------------------------------------------------------------------------------


def _write_overlay(prefix: Path, image: np.ndarray, found: Segmentation) -> list[Path]:
    path = _with_ending(prefix, "overlay.png")
    save_image(path, overlay(image, found.index, found.labels))
    return [path]


def _write_mask(prefix: Path, image: np.ndarray, found: Segmentation) -> list[Path]:
    path = _with_ending(prefix, "mask.png")
    save_mask(path, found.index)
    return [path]


def _write_heat_maps(prefix: Path, image: np.ndarray, found: Segmentation) -> list[Path]:
    """All labels have the same colour scale, so that a label that is absent stays dark."""
    limits, paths = score_limits(_score_maps(found)), []
    for i, (label, scores) in enumerate(zip(found.labels, _score_maps(found), strict=True)):
        name = re.sub(r"[^\w]+", "-", label).strip("-")[:40] or "label"
        paths.append(_with_ending(prefix, f"heat-{i + 1}-{name}.png"))
        save_image(paths[-1], heat_map(image, scores, label, limits=limits))
    return paths


def _write_npz(prefix: Path, image: np.ndarray, found: Segmentation) -> list[Path]:
    """``index`` [H, W], ``labels`` [C] and ``similarity`` float16 [C, H, W], as `numpy.load` reads them."""
    path = _with_ending(prefix, "npz")
    shape = (len(found.labels), *found.index.shape)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (("index", found.index), ("labels", np.array(found.labels))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        with archive.open("similarity.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for scores in _score_maps(found):
                member.write(scores.astype(np.float16).tobytes())
    return [path]


def _score_maps(found: Segmentation) -> Iterator[np.ndarray]:
    """One map [H, W] at a time, because those of 150 labels of a large image would not fit in memory."""
    return (found.score_map(i) for i in range(len(found.labels)))


def _with_ending(prefix: Path, ending: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{ending}")


@dataclass(frozen=True)
class Format:
    """An output format: files of its own, an entry for each label in the record ``NAME.json``, or a file for the run.

    Attributes:
        help: one line for the command's ``--help``.
        write: given the path without its ending, the image and its segmentation, writes files and returns their paths.
        entry: given the COCO RLE of a label, returns a JSON-serialisable value.
        dataset: given the folder of results, the labels and the names of the images, returns the file of the run.
    """

    help: str
    write: Callable[[Path, np.ndarray, Segmentation], list[Path]] | None = None
    entry: Callable[[dict[str, Any]], Any] | None = None
    dataset: Callable[[Path, Sequence[str], Sequence[str]], CocoDataset] | None = None


# To add a format, write a function as described at `Format` and add an entry here: the command's --format, its help
# and the record's "files" follow. Files are written with `pacl.files.atomic_write`; the order here is that of the
# record.
FORMATS = {
    "overlay": Format("the image with its labels drawn on it and a legend, NAME.overlay.png", write=_write_overlay),
    "mask": Format("palette PNG of label ids, 0 is background, NAME.mask.png", write=_write_mask),
    "heat": Format("cosine similarity of each label as a heat map, NAME.heat-ID-LABEL.png", write=_write_heat_maps),
    "rle": Format("COCO run lengths in the record NAME.json", entry=lambda rle: rle),
    "polygons": Format("COCO polygons in the record NAME.json", entry=polygons_of_rle),
    "coco": Format(
        "one COCO data set of all images, for annotation tools, annotations.json: a polygon annotation for each label",
        dataset=CocoDataset,
    ),
    "npz": Format("index, labels and similarities for NumPy, NAME.npz", write=_write_npz),
}
DEFAULT_FORMATS = ("overlay", "mask", "rle")
RESULT_ENDINGS = re.compile(r"\.(overlay|mask|heat-\d+-[^/]*)\.png$")
"""Of the images that these formats write."""
RUN_FILES = (DATASET_FILE,)
"""Names in the folder of results that no image's record may have."""
