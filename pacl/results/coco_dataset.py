"""The segmentation of many images as one COCO data set: images, categories and annotations in a single JSON file."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pacl.files import parse_json, save_json
from pacl.results.coco import categories, label_annotations
from pacl.results.result import ImageResult
from pacl.results.run_file import WRITER, RunFile, unique

CocoImage = tuple[dict[str, Any], list[dict[str, Any]]]
"""COCO's image and its annotations, without ids."""


class CocoDataset(RunFile[CocoImage]):
    """``annotations.json``, which `pycocotools.coco.COCO` and annotation tools read.

    A label of an image is one annotation: its polygons (COCO's have no holes, see `pacl.results.coco.polygons`), area
    in pixels, box and mean probability (``score``). ``results`` of an image is the name of its record.
    """

    name: ClassVar[str] = "annotations.json"

    def read(self, content: bytes) -> tuple[list[str], dict[str, CocoImage]]:
        """See `RunFile.read`."""
        old = parse_json(content.decode())
        if old["info"]["contributor"] != WRITER:
            raise ValueError
        json.dumps(old, allow_nan=False)  # raises ValueError if a number is not finite
        names = [each["name"] for each in old["categories"]]
        ids = [each["id"] for each in old["categories"]]
        if ids != list(range(1, len(names) + 1)):  # another program counted anew: its annotations mean other labels
            raise ValueError
        entries: dict[int, CocoImage] = {image.pop("id"): (image, []) for image in old["images"]}
        for each in old["annotations"]:
            del each["id"]
            if each["category_id"] not in ids:
                raise ValueError
            entries[each.pop("image_id")][1].append(each)
        return names, unique((image["file_name"], (image, its)) for image, its in entries.values())

    def owner(self, key: str) -> str | None:
        """See `RunFile.owner`."""
        return self.entries[key][0].get("results")

    def entry(self, item: ImageResult, place: str, record: dict[str, Any]) -> CocoImage:
        """See `RunFile.entry`."""
        size = {"width": record["width"], "height": record["height"]}
        image = {"file_name": place, **size, "results": self.text(item.name)}
        annotations = [
            {**each, "score": record["labels"][each["category_id"] - 1]["score"]}
            for each in label_annotations(item.found.index, len(self.classes), "polygons")
        ]
        return image, annotations

    def save(self) -> None:
        """See `RunFile.save`."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, (image, its) in enumerate(self.entries.values(), start=1):
            images.append({"id": number, **image})
            annotations += [{"id": i, "image_id": number, **each} for i, each in enumerate(its, len(annotations) + 1)]
        value = {
            "info": {"description": "segmented by words", "contributor": WRITER},
            "licenses": [],
            "images": images,
            "categories": categories(self.classes),
            "annotations": annotations,
        }
        save_json(self.path, value, rows=True)
