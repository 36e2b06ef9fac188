"""Output formats of segmentation: the files of an image, and the names that they leave to it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pacl.errors import ArgumentError, did_you_mean
from pacl.files import atomic_write, short_name
from pacl.images import save_image
from pacl.results.coco import polygons_of_rle
from pacl.results.coco_dataset import CocoDataset
from pacl.results.cvat import CvatDataset
from pacl.results.folder_dataset import FolderDataset, belongs_to
from pacl.results.labelme import FOLDER as LABELME
from pacl.results.labelme import write_labelme
from pacl.results.mmseg import MmsegDataset, write_mmseg
from pacl.results.overlay import heat_map, overlay, score_limits
from pacl.results.palette import save_mask
from pacl.results.paths import MASK, OVERLAY, heat_ending
from pacl.results.result import ImageResult, score_maps
from pacl.results.run_file import RunFile
from pacl.results.yolo import YoloDataset, write_yolo


def _write_overlay(item: ImageResult) -> list[Path]:
    path = item.path(OVERLAY)
    save_image(path, overlay(item.image, item.found.index, item.found.labels))
    return [path]


def _write_mask(item: ImageResult) -> list[Path]:
    path = item.path(MASK)
    save_mask(path, item.found.index)
    return [path]


def _write_heat_maps(item: ImageResult) -> list[Path]:
    """All labels have the same colour scale, so that a label that fits nowhere stays dark."""
    found = item.found
    limits, paths = score_limits(score_maps(found)), []
    for i, (label, scores) in enumerate(zip(found.labels, score_maps(found), strict=True), start=1):
        paths.append(item.path(heat_ending(i, label)))
        save_image(paths[-1], heat_map(item.image, scores, label, limits=limits))
    return paths


def _write_npz(item: ImageResult) -> list[Path]:
    """``index`` [H, W], ``labels`` [C] and ``similarity`` float16 [C, H, W], as `numpy.load` reads them."""
    found, path = item.found, item.path("npz")
    shape = (len(found.labels), *found.index.shape)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (("index", found.index), ("labels", np.array(found.labels))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        with archive.open("similarity.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for scores in score_maps(found):
                member.write(scores.astype(np.float16).tobytes())
    return [path]


@dataclass(frozen=True)
class Format:
    """An output format: files of each image, an entry for each label in the record ``NAME.json``, a file of the run.

    Attributes:
        help: one line for the command's ``--help``.
        write: writes files of an image and its segmentation, and returns their paths.
        entry: given the COCO RLE of a label, returns a JSON-serialisable value.
        dataset: the file of the run.
    """

    help: str
    write: Callable[[ImageResult], list[Path]] | None = None
    entry: Callable[[dict[str, Any]], Any] | None = None
    dataset: type[RunFile[Any]] | None = None


# To add a format, write a function or a `RunFile` as described at `Format` and add an entry here: the command's
# --format, its help and the record's "files" follow; the files of an image also have a line in
# `pacl.results.paths.PATHS`. Files are written with `pacl.files.atomic_write`; the order here
# is that of the record.
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
    "cvat": Format("CVAT for images 1.1, one file for all images, annotations.xml", dataset=CvatDataset),
    "labelme": Format("polygons for labelme, labelme/NAME.json", write=write_labelme),
    "yolo": Format(
        "YOLO data set for segmentation: yolo/data.yaml, polygons in yolo/labels, copies of the images in yolo/images",
        write=write_yolo,
        dataset=YoloDataset,
    ),
    "mmseg": Format(
        "mmsegmentation data set: mmseg/metainfo.json, masks of class indices from 0 in mmseg/ann_dir, copies of the "
        "images in mmseg/img_dir",
        write=write_mmseg,
        dataset=MmsegDataset,
    ),
    "npz": Format("index, labels and similarities for NumPy, NAME.npz", write=_write_npz),
}
DEFAULT_FORMATS = ("overlay", "mask", "rle")
RUN_FILES = tuple(each.dataset.name for each in FORMATS.values() if each.dataset)
"""Names in the folder of results that no image's record may have."""
FOLDERS = frozenset({LABELME, *(name.partition("/")[0] for name in RUN_FILES if "/" in name)})
"""Folders in that of the results that no image's files may lie in: those of formats do."""


def result_name(name: str) -> str:
    """A name for the results of an image, short enough for a file, and none of `RUN_FILES` nor in one of `FOLDERS`.

    Where it would be, ``-image`` is added to that file or folder: ``annotations-image``, ``labelme-image/cat``.
    """
    first, slash, rest = name.partition("/")
    taken = FOLDERS if slash else {file.partition(".")[0] for file in RUN_FILES}
    return short_name(f"{first}-image{slash}{rest}" if first.casefold() in taken else name)


def is_in_dataset(path: Path) -> bool:
    """Whether an image lies in a data set that one of these formats wrote: it is a mask or a copy of an image."""
    datasets = [each.dataset for each in FORMATS.values()]
    return belongs_to(path, [each for each in datasets if each and issubclass(each, FolderDataset)])


def check_formats(names: str | Sequence[str], argument: str = "formats") -> tuple[str, ...]:
    """Names of formats, each once; a text holds one or several with commas between them.

    Args:
        names: of some of `FORMATS`.
        argument: the caller's name for them, in the error.

    Raises:
        ArgumentError: there are none, or one is not in `FORMATS`.
    """
    given = names.split(",") if isinstance(names, str) else names
    chosen = tuple(dict.fromkeys(str(name).strip() for name in given if str(name).strip()))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown or not chosen:
        close = did_you_mean(unknown[0], list(FORMATS)) if unknown else ""
        reason = (f"{close} Choose" if close else "choose") + f" from {', '.join(FORMATS)}"
        raise ArgumentError(argument, ",".join(chosen) or "(none)", reason)
    return chosen
