"""Where the files of an image lie in the folder of results, and which of those that are there were written here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pacl.images import is_written_here
from pacl.results.labelme import is_unchanged

IsOwn = Callable[[Path], bool]
"""Whether a file is as it was written here, by a mark in it."""

OVERLAY, MASK = "overlay.png", "mask.png"
"""Endings of the files of an image, see `pacl.results.result.ImageResult.path`; those of heat maps: `heat_ending`."""

PATHS: Mapping[str, Mapping[str, IsOwn | None]] = {
    "overlay": {f"{{}}.{OVERLAY}": is_written_here},
    "mask": {f"{{}}.{MASK}": is_written_here},
    "npz": {"{}.npz": None},
    "labelme": {"labelme/{}.json": is_unchanged},
    "yolo": {"yolo/labels/{}.txt": None, "yolo/images/{}.jpg": None, "yolo/images/{}.png": None},
    "mmseg": {"mmseg/ann_dir/{}.png": is_written_here, "mmseg/img_dir/{}.jpg": None, "mmseg/img_dir/{}.png": None},
}
"""By format: the paths of the files of an image of some name, and what tells that they were written here.

None: the file has no mark; the record of the image says whether it was written here. Heat maps are in `paths_of`.
"""

VIDEO_ENDINGS = (".overlay.mp4", ".overlay.avi")
MASKS = ".masks"
"""Ending of `masks_folder`."""
FRAME_MASK_NAME = "{:06d}.mask.png"
"""By the number of the frame."""
FRAME_MASK = re.compile(r"\d{6,}\.mask\.png")
VIDEO_FRAME = re.compile(rf"{re.escape(MASKS)}/\d{{6,}}$", re.IGNORECASE)
"""Names that results of images do not have: their masks could be those of a video's frames."""

RESULT_ENDING = re.compile(r"\.(overlay\.(png|mp4|avi)|mask\.png|heat-\d+-[^/]*\.png)$")
"""Of the images and videos that are written."""


def heat_ending(number: int, label: str) -> str:
    """The ending of a heat map, ``heat-ID-LABEL.png``."""
    name = re.sub(r"[^\w]+", "-", label).strip("-").encode()[:40].decode("utf-8", "ignore") or "label"
    return f"heat-{number}-{name}.png"


def paths_of(out: Path, name: str, kind: str, labels: Sequence[str]) -> Iterator[tuple[Path, IsOwn | None]]:
    """The paths that the files of an image may have in one format, and what tells that they were written here.

    Args:
        out: the folder of results.
        name: of the image's results.
        kind: the format; those that write no file of an image have no paths.
        labels: names of the labels.
    """
    if kind == "heat":
        for number, label in enumerate(labels, start=1):
            yield out / f"{name}.{heat_ending(number, label)}", is_written_here
    for pattern, is_own in PATHS.get(kind, {}).items():
        yield out / pattern.format(name), is_own


def video_files(target: Path) -> list[Path]:
    """The overlay and the masks of a video, whose results are ``TARGET.jsonl`` and so on; those that exist.

    A mask that was changed since it was written is not among them.
    """
    return [*overlays_of(target), *filter(is_written_here, frame_masks(target))]


def overlays_of(target: Path) -> list[Path]:
    """The overlay of a video, see `video_files`; or none."""
    paths = [target.with_name(target.name + ending) for ending in VIDEO_ENDINGS]
    return [path for path in paths if path.is_file()]


def masks_folder(target: Path) -> Path:
    """The folder with the masks of a video's frames, see `video_files`."""
    return target.with_name(target.name + MASKS)


def frame_masks(target: Path) -> list[Path]:
    """The masks of the frames of a video, see `video_files`, also those that were changed since."""
    folder = masks_folder(target)
    return sorted(path for path in folder.iterdir() if FRAME_MASK.fullmatch(path.name)) if folder.is_dir() else []
