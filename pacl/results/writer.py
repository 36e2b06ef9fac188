"""What a segmented picture leaves behind: files in the formats asked for, one JSON record, a short table."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacl.files import atomic_write
from pacl.results import render

if TYPE_CHECKING:
    from rich.text import Text

    from pacl.cli.inputs import ImageFile
    from pacl.segmentation.segmenter import Segmentation

FORMATS = {
    "overlay": "the picture with its labels painted on it and a legend, NAME.overlay.png",
    "mask": "palette PNG of label ids, 0 is background, NAME.mask.png",
    "heat": "cosine similarity of each label as a heat map, NAME.heat-ID-LABEL.png",
    "rle": "COCO run lengths in the record NAME.json",
    "polygons": "COCO polygons in the record NAME.json",
    "npz": "index, labels and similarities for numpy, NAME.npz",
}
DEFAULT_FORMATS = ("overlay", "mask", "rle")
ROWS = 20  # of the table; a label a row is no short table with 150 classes


def printable(path: Path) -> str:
    """A path as text that any file and terminal takes: bytes that are not UTF-8 are spelt out."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Writer:
    """Writes the results of one run, so that every picture's are made the same way."""

    out: Path
    formats: Collection[str]
    """Keys of `FORMATS`; nothing else is made."""
    model: dict[str, Any]
    """What the record says of the model."""

    def write(self, picture: ImageFile, image: np.ndarray, found: Segmentation) -> dict[str, Any]:
        """Write the files of one picture, each whole or not at all, and return its record.

        Args:
            picture: Where it came from and what its results are called.
            image: RGB uint8 [H, W, 3].
            found: Its segmentation.

        Returns:
            The record: JSON-serialisable, and the same for the same picture, words and model.

        Raises:
            UserError: A file cannot be written.
        """
        files: dict[str, list[str]] = {}

        def path(kind: str, ending: str) -> Path:
            to = self.out / f"{picture.name}.{ending}"
            files.setdefault(kind, []).append(printable(to))
            return to

        if "overlay" in self.formats:
            render.save_image(path("overlay", "overlay.png"), render.overlay(image, found.index, found.labels))
        if "mask" in self.formats:
            render.save_mask(path("mask", "mask.png"), found.index)
        if "heat" in self.formats:
            limits = _limits(found)
            for i, label in enumerate(found.labels):
                drawn = render.heat(image, found.score_map(i), label, limits=limits)
                render.save_image(path("heat", f"heat-{i + 1}-{_slug(label)}.png"), drawn)
        if "npz" in self.formats:
            with atomic_write(path("npz", "npz")) as aside:
                _save_npz(aside, found)
        has_record = not {"rle", "polygons"}.isdisjoint(self.formats)
        record_path = path("json", "json") if has_record else None
        record = self._record(picture, found, files)
        if record_path:  # last: where it lies, the other files are complete
            render.save_json(record_path, record)
        return record

    def _record(self, picture: ImageFile, found: Segmentation, files: dict[str, list[str]]) -> dict[str, Any]:
        height, width = found.index.shape
        return {
            "image": printable(picture.path),
            "width": width,
            "height": height,
            "model": self.model,
            "settings": dataclasses.asdict(found.settings),
            "background": {"rule": found.background, "share": float((found.index == 0).mean())},
            "labels": render.summary(
                found.index,
                found.labels,
                found.prompts,
                found.scores,
                masks="rle" in self.formats,
                outlines="polygons" in self.formats,
            ),
            "files": files,
        }


def _limits(found: Segmentation) -> tuple[float, float]:
    """Smallest and largest cosine of all labels: with one scale, what is absent stays dark."""
    ends = [(float(scores.min()), float(scores.max())) for scores in _score_maps(found)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _score_maps(found: Segmentation) -> Iterator[np.ndarray]:
    """The maps [H, W] one by one: together, 150 labels of a large photo would not fit in memory."""
    return (found.score_map(i) for i in range(len(found.labels)))


def _save_npz(file: Path, found: Segmentation) -> None:
    """``index`` [H, W], ``labels`` [C] and ``similarity`` float16 [C, H, W], as `numpy.load` reads them."""
    shape = (len(found.labels), *found.index.shape)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (("index", found.index), ("labels", np.array(found.labels))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        with archive.open("similarity.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for scores in _score_maps(found):
                member.write(scores.astype(np.float16).tobytes())


def _slug(label: str) -> str:
    """A label as part of a file name: no separators, no dots, not long."""
    return re.sub(r"[^\w]+", "-", label).strip("-")[:40] or "label"


# --- On the terminal ------------------------------------------------------------------------------------


def table(record: dict[str, Any]) -> Iterator[Text]:
    """A few lines for a person: per label its share, its mean probability and its box, the largest first."""
    from rich.text import Text

    colours = render.palette(len(record["labels"]))
    found = sorted((label for label in record["labels"] if label["share"] > 0), key=lambda label: -label["share"])
    absent = [label["label"] for label in record["labels"] if label["share"] == 0]
    shown = found[:ROWS]
    names = [*(label["label"] for label in shown), "(background)"]
    wide = min(40, max(len(name) for name in names))
    yield Text(f"{'':4}{'label':<{wide}}    share  score   box x, y, w, h", style="dim")
    for label in shown:
        line = Text("  ")
        line.append("■ ", style="rgb({},{},{})".format(*colours[label["id"]]))
        box = ", ".join(map(str, label["box"]))
        line.append(f"{_cut(label['label'], wide):<{wide}}  {label['share']:7.1%}   {label['score']:.3f}  {box}")
        yield line
    if record["background"]["share"] > 0:
        yield Text(f"    {'(background)':<{wide}}  {record['background']['share']:7.1%}", style="dim")
    if len(found) > ROWS:
        yield Text(f"    and {len(found) - ROWS} smaller ones", style="dim")
    if absent:
        yield Text("    absent: " + _cut(", ".join(absent), 100), style="dim")


def line(record: dict[str, Any], most: int = 4) -> str:
    """One line for one picture of many: its largest labels and their shares."""
    found = sorted((label for label in record["labels"] if label["share"] > 0), key=lambda label: -label["share"])
    parts = [f"{_cut(label['label'], 30)} {label['share']:.1%}" for label in found[:most]]
    return ", ".join(parts + ["..."] * (len(found) > most)) or "nothing found"


def _cut(text: str, room: int) -> str:
    """As much as there is room for, without letters that would steer the terminal."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= room else text[: room - 3] + "..."
