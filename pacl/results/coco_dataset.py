"""The segmentation of many images as one COCO data set: images, categories and annotations in a single JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pacl.errors import ArgumentError
from pacl.files import parse_json, save_json
from pacl.results.coco import categories, label_annotations

DATASET_FILE = "annotations.json"
_WRITER = "pacl"


class CocoDataset:
    """Collects the images of a run for ``annotations.json``, which `pycocotools.coco.COCO` and annotation tools read.

    A label of an image is one annotation: its polygons (COCO's have no holes, see `pacl.results.coco.polygons`), area
    in pixels, box and mean probability (``score``). Images in the file of an earlier run with the same labels stay in
    it, so that a run over the remaining images completes it.

    Args:
        out: folder of the file.
        labels: names of the categories, with ids 1, 2, ...
        images: names of the images of this run.

    Raises:
        ArgumentError: ``out`` has a file of that name that this run would spoil: with other labels, and images that
            are not among those of this run, or not written here.
    """

    def __init__(self, out: Path, labels: Sequence[str], images: Sequence[str]) -> None:
        self.path = out / DATASET_FILE
        self.categories = categories(labels)
        self.images: dict[str, dict[str, Any]] = {}
        self.annotations: dict[str, list[dict[str, Any]]] = {}
        if self.path.exists():
            self._read(set(images))

    def _read(self, images: set[str]) -> None:
        """Take over the images of the file; with other labels they are replaced if all of them are done again."""
        out = self.path.parent
        try:
            old = parse_json(self.path.read_text(encoding="utf-8"))
            if old["info"]["contributor"] != _WRITER:
                raise ValueError
            names = {image["id"]: image["file_name"] for image in old["images"]}
            same = old["categories"] == self.categories
            annotations: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
            for each in old["annotations"]:
                annotations[names[each["image_id"]]].append(each)
        except (OSError, ValueError, KeyError, TypeError):
            reason = f"has an {DATASET_FILE} that was not written by this command; choose another folder"
            raise ArgumentError("out", out, reason) from None
        if same:
            self.images = {image["file_name"]: image for image in old["images"]}
            self.annotations = annotations
        elif not images >= set(annotations):
            reason = f"has an {DATASET_FILE} with other labels and other images; choose another folder"
            raise ArgumentError("out", out, reason)

    def add(self, name: str, record: dict[str, Any], index: np.ndarray) -> None:
        """Add an image, or replace it.

        Args:
            name: of the image file; tools look for it in their folder of images.
            record: of `pacl.results.writer.Writer.write`.
            index: label ids [H, W].
        """
        number = self.images[name]["id"] if name in self.images else 1 + len(self.images)
        self.images[name] = {
            "id": number,
            "file_name": name,
            "width": record["width"],
            "height": record["height"],
        }
        self.annotations[name] = [
            {"image_id": number, **each, "score": record["labels"][each["category_id"] - 1]["score"]}
            for each in label_annotations(index, len(self.categories), "polygons")
        ]

    def save(self) -> Path:
        """Write the file, and return its path.

        Raises:
            UserError: it cannot be written.
        """
        annotations = [each for name in self.images for each in self.annotations[name]]
        value = {
            "info": {"description": "segmented by words", "contributor": _WRITER},
            "licenses": [],
            "images": list(self.images.values()),
            "categories": self.categories,
            "annotations": [{**each, "id": i} for i, each in enumerate(annotations, start=1)],
        }
        save_json(self.path, value)
        return self.path
