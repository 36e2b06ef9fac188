"""The segmentation of one image as labelme's JSON file.

https://github.com/wkentaro/labelme, whose ``labelme/_label_file.py`` reads it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

from pacl.files import parse_json, save_json
from pacl.printing import printable
from pacl.results.coco import label_polygons
from pacl.results.result import ImageResult

FOLDER = "labelme"
VERSION = "5.5.0"
"""Of labelme, whose fields these are; later versions read them too."""
MARK = "pacl"
"""Key of a checksum of the other fields, which labelme keeps: it tells a file that was changed since."""


def write_labelme(item: ImageResult) -> list[Path]:
    """Write ``labelme/NAME.json`` and return its path.

    Each connected part of a label is a polygon; holes are joined to the outline, see `pacl.results.coco.polygons`. The
    file leads to the image by a relative path. An image that was not read from a file is embedded, and one whose path
    JSON cannot hold, because it is not UTF-8.
    """
    found, path = item.found, item.path("json", FOLDER)
    image = f"{Path(item.name).name}.png" if item.file is None else _relative(item.file, path.parent)
    is_embedded = item.file is None or image != printable(image)
    height, width = found.index.shape
    shapes: list[dict[str, Any]] = [
        {
            "label": label,
            "points": ring,
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for label, rings in zip(found.labels, label_polygons(found.index, len(found.labels)), strict=True)
        for ring in rings
    ]
    value = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": printable(image),
        "imageData": _embedded(item) if is_embedded else None,
        "imageHeight": height,
        "imageWidth": width,
    }
    save_json(path, {**value, MARK: _checksum(value)}, rows=True)
    return [path]


def is_unchanged(path: Path) -> bool:
    """Whether a file is as `write_labelme` wrote it; one of another program is not."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.pop(MARK, None) == _checksum(value)


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _relative(file: Path, folder: Path) -> str:
    """The path from a folder to a file, as programs follow it: ``..`` of a link is the folder above its target."""
    try:
        return Path(os.path.relpath(os.path.realpath(file.parent), os.path.realpath(folder)), file.name).as_posix()
    except ValueError:  # on another drive of Windows
        return file.resolve().as_posix()


def _embedded(item: ImageResult) -> str:
    content = io.BytesIO()
    Image.fromarray(item.image).save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode("ascii")
