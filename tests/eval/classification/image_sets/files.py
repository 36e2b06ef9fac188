"""Images of a data set, and the classes that it gives them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from eval.classification.names import class_keys


def save(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (grey, 0, 0)).save(path)
    return path


def classes_of(images) -> list[str]:
    return [images.prompts[label][0] for label in images.labels]


def open_keys(name: str) -> list[str]:
    return list(class_keys(name))
