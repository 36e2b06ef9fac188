"""The segmentation of many images as a data set of mmsegmentation: images, masks of class indices, names and colours.

https://mmsegmentation.readthedocs.io/en/latest/advanced_guides/add_datasets.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from pacl.errors import UserError
from pacl.files import parse_json, save_json
from pacl.results.folder_dataset import FolderDataset, copy_image
from pacl.results.palette import palette, save_mask
from pacl.results.result import ImageResult
from pacl.results.run_file import WRITER, Run

IGNORED = 255
"""Mask value that mmsegmentation leaves out of loss and metrics."""
IGNORED_COLOUR = (255, 255, 255)
BACKGROUND = "background"


class MmsegDataset(FolderDataset):
    """``mmseg/metainfo.json``: ``classes`` and ``palette``, in the order of the mask values 0, 1, ...

    The classes are the labels. Where a background rule is on, `background` comes before them, so that "none of these"
    can be learned; without one, a pixel that has no label is `IGNORED`.
    """

    name: ClassVar[str] = "mmseg/metainfo.json"
    images: ClassVar[str] = "mmseg/img_dir"
    labels: ClassVar[str] = "mmseg/ann_dir"
    label_suffix: ClassVar[str] = ".png"
    mark: ClassVar[bytes] = f'"source": "{WRITER}"'.encode()

    def __init__(self, run: Run) -> None:
        self._first_colour = 0 if run.background else 1  # those of the ids in other results
        super().__init__(run)

    def classes_of(self, run: Run, labels: Sequence[str]) -> list[str]:
        """See `RunFile.classes_of`."""
        if run.background and BACKGROUND in labels:
            reason = f"the background rule has a class {BACKGROUND}; give the label of that name another"
            raise UserError(f"format mmseg: {reason}, or use no rule")
        classes = [BACKGROUND] * run.background + list(labels)
        if len(classes) > IGNORED:
            raise UserError(f"format mmseg: holds at most {IGNORED} classes, here are {len(classes)}; choose another")
        return classes

    def difference(self, classes: Sequence[str]) -> str:
        """See `RunFile.difference`; the labels may be the same and a background rule on in one of both runs alone."""
        if classes == [BACKGROUND, *self.classes]:
            return f"a class {BACKGROUND} (of a background rule, which this run has not)"
        if self.classes == [BACKGROUND, *classes]:
            return f"no class {BACKGROUND} (which the background rule of this run needs)"
        return super().difference(classes)

    @classmethod
    def read_classes(cls, content: bytes) -> list[str]:
        """See `FolderDataset.read_classes`."""
        return [str(name) for name in parse_json(content.decode())["classes"]]

    def save(self) -> None:
        """See `RunFile.save`."""
        first = self._first_colour
        colours = palette(first + len(self.classes) - 1)[first:].tolist()
        save_json(self.path, {"source": WRITER, "classes": self.classes, "palette": colours})


def write_mmseg(item: ImageResult) -> list[Path]:
    """Write ``mmseg/ann_dir/NAME.png``, a palette PNG, and a copy of the image, and return their paths."""
    index, colours = item.found.index, palette(IGNORED)
    if not item.background:
        index = np.where(index == 0, IGNORED, index.astype(np.int32) - 1)
        colours = np.concatenate([colours[1:], [IGNORED_COLOUR]]).astype(np.uint8)
    path = item.path("png", MmsegDataset.labels)
    save_mask(path, index, colours)
    return [copy_image(item, MmsegDataset.images), path]
