"""Synthetic data sets in the file layout of a benchmark: images of coloured cells, with exact masks.

An image is a Voronoi diagram. Each cell has one class and shows the colour of this class with noise. Cells are
separated by lines of one pixel that have no label. A file in the data folder records what was generated there, so that
no other file is ever overwritten and results on synthetic images are never reported as results of the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.segmentation import label_maps
from eval.segmentation.benchmark import Benchmark
from eval.segmentation.layout import FileLayout, make_writable_folder
from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, parse_json

RECORD = "drawn.json"
"""Name of the file that records which splits were generated in a data folder, and with which settings."""

CELLS = (6, 16)
"""Range of the number of cells of an image."""

NOISE = 24
"""Exclusive upper limit of the noise that is added to colours, which are at most 255 - NOISE."""


@dataclass(frozen=True)
class Style:
    """Properties of the files of a data set.

    Attributes:
        name: format of image names, with the fields ``number`` and ``short``, an abbreviation of the split.
        values: label values, as they are published, that cells can have, with equal probability.
        void: published value of pixels without a label.
        size: height and width of images in pixels.
        palette: whether the published masks have a palette.
    """

    name: str
    values: tuple[int, ...]
    void: int
    size: tuple[int, int] = (375, 500)
    palette: bool = False


_COCO_VALUES = tuple(value for value in range(label_maps.COCO_VALUES) if value not in label_maps.COCO_UNUSED)
_STYLES = {
    "VOC2012": Style("2012_{number:06d}", tuple(range(21)), 255, palette=True),
    # 1 and 459 are two of the 400 labels that are background to the benchmark.
    "VOC2010": Style("2010_{number:06d}", (*label_maps.CONTEXT_IDS.values(), 1, 459), 0, palette=True),
    "coco": Style("{number:012d}", _COCO_VALUES, 255),
    "ADEChallengeData2016": Style("ADE_{short}_{number:08d}", tuple(range(1, 151)), 0),
    # 1 and 29 (ego vehicle, caravan) are not scored.
    "cityscapes": Style(
        "drawn/drawn_{number:06d}_000019", (*label_maps.CITYSCAPES_IDS.values(), 1, 29), 0, size=(512, 1024)
    ),
    "CamVid": Style("drawn_{number:05d}", tuple(range(11)), 11, size=(360, 480)),
}
"""Name of the data set's folder -> style. Benchmarks with the same folder have the same images."""

COLOURS = np.random.default_rng(0).integers(0, 256 - NOISE, (label_maps.CONTEXT_VALUES, 3), dtype=np.uint8)
"""Colour of each label value, RGB uint8 [V, 3]."""


def style_of(benchmark: Benchmark) -> Style:
    """The style of a benchmark; for benchmarks without an entry in the table, their own classes and plain names."""
    values = tuple(range(benchmark.offset, benchmark.offset + (benchmark.classes or 2)))
    plain = Style("drawn_{number:06d}", values, benchmark.ignore[0] if benchmark.ignore else values[0])
    return _STYLES.get(Path(benchmark.layout.bases[0]).name, plain)


def draw(style: Style, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Generate an image, RGB uint8 [H, W, 3], and its labels with their published values, uint16 [H, W]."""
    import cv2

    height, width = size
    cells = int(rng.integers(*CELLS))
    field = np.ones(size, np.uint8)
    field[rng.integers(0, height, cells), rng.integers(0, width, cells)] = 0
    # Each pixel belongs to the cell of the nearest zero; cells are numbered from 1.
    nearest = cv2.distanceTransformWithLabels(field, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]  # [H, W]
    values = rng.choice(style.values, cells).astype(np.uint16)[nearest - 1]  # [H, W]
    image = COLOURS[values] + rng.integers(0, NOISE, (*size, 3), dtype=np.uint8)
    values[:, 1:][nearest[:, 1:] != nearest[:, :-1]] = style.void
    values[1:][nearest[1:] != nearest[:-1]] = style.void
    return image, values


# --- Files ------------------------------------------------------------------------------------------------------


def write_pair(
    benchmark: Benchmark, data: Path, split: str, name: str, image: np.ndarray, values: np.ndarray, *, raw: bool
) -> None:
    """Write an image and its labels, unless they exist.

    Args:
        benchmark: the benchmark, which determines paths and formats.
        data: folder of all data sets.
        split: split of the benchmark.
        name: name of the image.
        image: RGB uint8 [H, W, 3].
        values: labels with their published values, [H, W].
        raw: write the labels as they are published, instead of converting them for the benchmark.
    """
    layout = benchmark.layout

    def path(folder: str, ending: str) -> Path:
        return data / layout.bases[0] / folder.replace("{split}", split) / (name + ending)

    file = path(layout.images[0], layout.image_ending or ".jpg")
    if not file.exists():
        with atomic_write(file) as aside:
            Image.fromarray(image).save(aside, quality=95)  # PNG ignores the quality
    file = path(layout.raw[0], layout.raw_ending) if raw else path(layout.masks[0], layout.mask_ending)
    if file.exists():
        return
    if file.suffix == ".mat":
        from scipy.io import savemat

        with atomic_write(file) as aside:
            savemat(str(aside), {"LabelMap": values}, do_compression=True)
        return
    if benchmark.label_map is not None and not raw:
        values = label_maps.relabel(values, benchmark.label_map, file)
    mask = Image.fromarray(values.astype(np.uint8))
    if style_of(benchmark).palette:
        mask.putpalette(np.resize(COLOURS, (256, 3)).tobytes())
    with atomic_write(file) as aside:
        mask.save(aside)


def write_lists(layout: FileLayout, data: Path, split: str, names: Sequence[str], *, raw: bool) -> None:
    """Write the file that lists the images of a split, unless it exists.

    With ``raw``, the list for Pascal Context is written where VOC has it, and its list of 459 labels is written, too.
    """
    base = data / layout.bases[0]
    if layout.only:
        only = base / layout.only[-1 if raw else 0].replace("{split}", split)
        _write_new(only, "".join(f"{name}\n" for name in names).encode())
    if raw and layout.raw_ending == ".mat":
        known = {number: name for name, number in label_maps.CONTEXT_IDS.items()}
        lines = (f"{i}: {known.get(i, f'label {i}')}\n" for i in range(1, label_maps.CONTEXT_VALUES))
        _write_new(base / "labels.txt", "".join(lines).encode())


def _write_new(path: Path, content: bytes) -> None:
    if not path.exists():
        with atomic_write(path) as aside:
            aside.write_bytes(content)


# --- The record of what was generated -------------------------------------------------------------------------------


def record_drawing(data: Path, layout: FileLayout, split: str, settings: dict[str, Any]) -> None:
    """Record that a split will be generated in a data folder.

    Args:
        data: folder of all data sets.
        layout: layout of the data set.
        split: the split.
        settings: the settings with which its images are generated.

    Raises:
        ArgumentError: the folder contains files that were not generated, or this split with other settings.
    """
    make_writable_folder(data, "data")
    base = Path(layout.bases[0])
    key = f"{base.name} {split}"
    drawn = _read_record(data)
    if not drawn and any(data.iterdir()):
        raise ArgumentError("data", data, "contains files that were not generated here; choose an empty folder")
    known = {other.partition(" ")[0] for other in drawn}  # splits may share a folder of images
    if base.name not in known and (data / base / layout.images[0].replace("{split}", split)).is_dir():
        raise ArgumentError("data", data, f"{key} contains files that were not generated here; choose an empty folder")
    if drawn.setdefault(key, settings) != settings:
        before = ", ".join(f"{name} {value}" for name, value in drawn[key].items())
        raise ArgumentError("data", data, f"{key} was generated there with {before}; choose an empty folder")
    with atomic_write(data / RECORD) as aside:
        aside.write_text(json.dumps(drawn, indent=2) + "\n")


def was_drawn(layout: FileLayout, images: str | Path, split: str) -> bool:
    """Whether the images in a folder were generated: a record in a parent folder lists the data set and the split.

    Args:
        layout: layout of the data set.
        images: folder of the images.
        split: split of the images.
    """
    images = Path(images).resolve()
    relative = {Path(base, folder.replace("{split}", split)) for base in layout.bases for folder in layout.images}
    key = f"{Path(layout.bases[0]).name} {split}"
    return any(images.relative_to(above) in relative and key in _read_record(above) for above in images.parents)


def _read_record(data: Path) -> dict[str, dict[str, Any]]:
    """Read the record: "DATASET SPLIT" -> settings; empty if nothing was generated here."""
    record = data / RECORD
    if not record.is_file():
        return {}
    try:
        found = parse_json(record.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
            raise ValueError
        return found
    except (OSError, ValueError):
        raise UserError(f"{record} cannot be read: choose an empty folder") from None
