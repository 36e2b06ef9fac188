"""Small segmentations and runs over them, which the tests of formats share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pacl.results.writer import LOCK, Writer
from pacl.segmentation.settings import SegmenterSettings

LABELS = ("a dog", "grass", "a cat")
IMAGE = np.zeros((20, 30, 3), np.uint8)


def two_labels() -> np.ndarray:
    """Ids [20, 30]: 1 in two parts, 2 with a hole, 3 nowhere."""
    index = np.zeros((20, 30), np.uint8)
    index[2:8, 2:8] = index[2:8, 20:28] = 1
    index[10:18, 5:15] = 2
    index[12:15, 8:12] = 0
    return index


def result(index: np.ndarray | None = None, labels: Sequence[str] = LABELS, background: str = "none") -> Any:
    index = two_labels() if index is None else index
    count = len(labels)
    return SimpleNamespace(
        labels=list(labels),
        prompts=[(label,) for label in labels],
        index=index,
        shares=[float((index == i + 1).mean()) for i in range(count)],
        scores=[0.5] * count,
        background=background,
        settings=SegmenterSettings(),
        contents={},
    )


def write_run(
    out: Path, format: str, *images: str, labels: Sequence[str] = LABELS, background: str = "none", done: int = 99
) -> Path:
    """Write one format of images that lie in OUT/../photos, the first ``done`` of them; returns the run's file."""
    writer = Writer(out, (format,), {"name": "tiny"})
    names = {image.rpartition(".")[0]: image for image in images}
    writer.start(labels, names, background=background != "none")
    for name, image in list(names.items())[:done]:
        path = out.parent / "photos" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", (30, 20), (90, 120, 30)).save(path)
        pixels = np.asarray(Image.open(path).convert("RGB"))
        writer.write(name, path, pixels, result(labels=labels, background=background), image, replace=True)
    return writer.finish().get(format, out)


def write_one(
    out: Path,
    formats: tuple[str, ...],
    *labels: str,
    name: str = "a",
    overwrite: bool = False,
    image: np.ndarray = IMAGE,
) -> None:
    """Write the results of one image of 20 x 30 pixels, as a run of its own."""
    writer = Writer(out, formats, {"name": "tiny"}, overwrite)
    writer.start(labels, {name: f"{name}.png"})
    index = np.zeros((20, 30), np.uint8)
    index[5:15, 5:15] = 1
    found = result(index, labels)
    found.score_map = lambda label: np.zeros((20, 30), np.float32)
    writer.write(name, Path(f"{name}.png"), image, found, replace=True)
    writer.finish()


def files(folder: Path) -> set[str]:
    """Paths of the files in a folder of results, without that of the lock."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}
