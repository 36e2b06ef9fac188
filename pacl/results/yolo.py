"""The segmentation of many images as a YOLO data set for segmentation: polygons in text files, classes in YAML.

https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import ClassVar

from pacl.errors import UserError
from pacl.files import atomic_write
from pacl.printing import escaped
from pacl.results.coco import label_polygons
from pacl.results.folder_dataset import FolderDataset, copy_image
from pacl.results.result import ImageResult
from pacl.results.run_file import WRITER, Run


class YoloDataset(FolderDataset):
    """``yolo/data.yaml``: the names of the classes; label i is class i - 1.

    Raises:
        UserError: an image lies in a subfolder ``images``, or as `RunFile`.
    """

    name: ClassVar[str] = "yolo/data.yaml"
    images: ClassVar[str] = "yolo/images"
    labels: ClassVar[str] = "yolo/labels"
    label_suffix: ClassVar[str] = ".txt"
    mark: ClassVar[bytes] = f"source: {WRITER}\n".encode()

    def __init__(self, run: Run) -> None:
        for name in run.images:
            if "images" in PurePath(name).parts[:-1]:  # the last one of a path is where Ultralytics puts "labels"
                reason = "Ultralytics finds no labels of images in a subfolder called images"
                raise UserError(f"format yolo: {reason} ({escaped(name)}); name that folder itself, or rename it")
        super().__init__(run)

    @classmethod
    def read_classes(cls, content: bytes) -> list[str]:
        """See `FolderDataset.read_classes`."""
        import yaml

        try:
            old = yaml.safe_load(content)
        except yaml.YAMLError as error:
            raise ValueError from error
        return [old["names"][i] for i in range(len(old["names"]))]

    def save(self) -> None:
        """See `RunFile.save`. Without ``path``, the folders are relative to the file."""
        import yaml

        value = {"source": WRITER, "train": "images", "val": "images", "names": dict(enumerate(self.classes))}
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(text.encode())


def write_yolo(item: ImageResult) -> list[Path]:
    """Write ``yolo/labels/NAME.txt`` and a copy of the image, and return their paths.

    A line is a connected part of a label: its class and the corners of its outline in parts of width and height,
    from 0 to 1. Holes are joined to the outline, see `pacl.results.coco.polygons`.
    """
    index = item.found.index
    height, width = index.shape
    lines = [
        " ".join([str(number), *(f"{x / width:.6f} {y / height:.6f}" for x, y in ring)])
        for number, rings in enumerate(label_polygons(index, len(item.found.labels)))
        for ring in rings
    ]
    path = item.path("txt", YoloDataset.labels)
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="ascii", newline="\n")
    return [copy_image(item, YoloDataset.images), path]
