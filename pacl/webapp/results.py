"""What the page shows of an answer: images, a table, messages, and files to download."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pacl.errors import ArgumentError
from pacl.files import make_folder, save_json
from pacl.images import pixel_checksum
from pacl.results.formats import result_name
from pacl.results.overlay import fit, paint_labels
from pacl.results.palette import palette
from pacl.results.paths import MASK, OVERLAY
from pacl.results.writer import Writer
from pacl.segmentation.encode import as_array
from pacl.segmentation.result import Segmentation

View = Literal["Masks", "Heat map"]
VIEWS: tuple[str, ...] = get_args(View)
SIDE = 1200  # long side, in pixels, of what the page shows
FILES = ("mask", "json", "coco", "overlay")
"""Kinds of files to download, see `write_files`."""


def plain(pixels: np.ndarray) -> np.ndarray:
    """An image without labels, RGB uint8 [H, W, 3], at the size that the page shows."""
    return fit(pixels, SIDE)


def draw(found: Segmentation, view: str, label: int) -> np.ndarray:
    """Draw an answer.

    Args:
        found: the answer.
        view: one of `VIEWS`.
        label: id of the label that is shown alone; 0 shows all, and of heat maps that of the largest.

    Returns:
        RGB uint8 [H', W', 3].
    """
    if view == "Heat map":
        return np.asarray(found.heatmap(label or 1 + int(np.argmax(found.shares))))
    assert found.source is not None
    index = np.where(found.index == label, found.index, 0) if label else found.index
    return paint_labels(as_array(found.source), index, long_side=SIDE)


def label_at(found: Segmentation, drawn: tuple[int, int], point: tuple[int, int]) -> int:
    """The id of the label at a point of an image that `draw` made of the masks.

    Args:
        found: the answer.
        drawn: height and width of that image.
        point: x and y of the point, in its pixels.
    """
    height, width = found.index.shape
    row = min(max(point[1] * height // max(drawn[0], 1), 0), height - 1)
    column = min(max(point[0] * width // max(drawn[1], 1), 0), width - 1)
    return int(found.index[row, column])


def share_table(found: Segmentation, label: int = 0) -> str:
    """The legend of an answer as an HTML table: colour, label, share of the pixels and score, the largest first.

    Args:
        found: the answer.
        label: id of the label that is shown alone; 0 is none.
    """
    colours = palette(len(found.labels))
    rows = []
    for i in sorted(range(1, len(found.labels) + 1), key=lambda i: -found.shares[i - 1]):
        share, score = found.shares[i - 1], found.scores[i - 1]
        rows.append(
            f'<tr class="{"other" if label not in (0, i) else ""}">'
            f'<td><span class="swatch" style="background: rgb{tuple(map(int, colours[i]))}"></span>'
            f"{html.escape(found.labels[i - 1])}</td>"
            f"<td>{share:.1%}</td><td>{f'{score:.3f}' if share else '–'}</td></tr>"
        )
    background = float((found.index == 0).mean())
    if background:
        rows.append(
            f'<tr class="{"other" if label else ""}"><td><span class="swatch none"></span>background</td>'
            f"<td>{background:.1%}</td><td></td></tr>"
        )
    head = "<tr><th>label</th><th>share</th><th>score</th></tr>"
    return f'<table class="shares"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def message(notes: Sequence[str], *, error: bool = False) -> str:
    """Warnings or an error as HTML, a line each."""
    lines = [" ".join(str(note).split()) for note in notes]
    kind, role = ("error", "alert") if error else ("note", "status")
    return "".join(f'<div class="message {kind}" role="{role}">{html.escape(line)}</div>' for line in lines)


def error_text(error: Exception) -> str:
    """An error as one line for a visitor, who knows settings by the names on the page."""
    if isinstance(error, ArgumentError):
        return f"{error.argument.replace('_', ' ')} {error.value}: {error.reason}"
    return str(error)


def write_files(found: Segmentation, name: str, model: str, folder: Path) -> dict[str, Path]:
    """Write the files to download, the same that `pacl segment --format overlay,mask,rle,coco` writes.

    Args:
        found: the answer.
        name: name of the image's file.
        model: the model's name, for the record.
        folder: made if it is missing.

    Returns:
        The path of each of `FILES`.

    Raises:
        UserError: a file cannot be written.
    """
    assert found.source is not None
    writer = Writer(make_folder(folder, "folder"), ("overlay", "mask", "rle", "coco"), {"name": model, **found.model})
    stem = result_name(Path(name).stem or "image")
    writer.start(found.labels, {stem: name}, background=found.background != "none")
    pixels = as_array(found.source)
    checksum = pixel_checksum(pixels)  # in place of a path: folders are nobody's business
    record = writer.write(stem, Path(name), pixels, found, pixels=checksum)
    coco = writer.finish()["coco"]
    names = {kind: [Path(file).name for file in files] for kind, files in record["files"].items()}
    save_json(folder / f"{stem}.json", {**record, "files": names}, rows=True)
    return {
        "mask": folder / f"{stem}.{MASK}",
        "json": folder / f"{stem}.json",
        "coco": coco,
        "overlay": folder / f"{stem}.{OVERLAY}",
    }
