"""The description of a segmentation benchmark: files, classes, label values. It opens as a `MaskFolder`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.segmentation.layout import FileLayout, Locations
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.printing import counted

NAMES = Path(__file__).parent / "names"
LISTS = ("plain", "sclip", "clearclip", "proxyclip", "everyday")


@dataclass(frozen=True)
class Benchmark:
    """A data set of images with masks, and how it is scored.

    Attributes:
        name: the benchmark on the command line.
        title: the data set in tables and figures.
        classes: number of scored classes C; None: one for each line of the names file.
        background: whether class 0 is "none of the other classes".
        split: the default split.
        full: number of images of each official split.
        source: web page that the data set is downloaded from.
        layout: where the files lie.
        ignore: mask values that are not scored.
        offset: mask value of class 0.
        label_map: table of `eval.segmentation.label_maps` that converts the published labels to masks; None: the
            published labels are scored.
        names: file of class names that replaces the lists in ``eval/segmentation/names``.
        palette: file with the colours of the classes; None: masks hold class indices.
    """

    name: str
    title: str
    classes: int | None
    background: bool
    split: str
    full: dict[str, int]
    source: str
    layout: FileLayout
    ignore: tuple[int, ...] = (255,)
    offset: int = 0
    label_map: np.ndarray | None = field(default=None, repr=False, compare=False)
    names: str | None = None
    palette: str | None = None

    def open(
        self,
        data: str | Path,
        split: str | None = None,
        names: str | None = None,
        limit: int | None = None,
        partial: bool = False,
    ) -> MaskFolder:
        """Open a split. Mask values become classes 0..C-1, or `pacl.data.masks.IGNORED`.

        Args:
            data: folder of all data sets.
            split: None: the default split.
            names: list of class names: ``plain`` (default), ``sclip``, ``clearclip``, ``proxyclip``, ``everyday``, or
                a file.
            limit: use this many images, evenly spread over the split.
            partial: skip images that are missing or have no mask, instead of raising an error.

        Raises:
            UserError: something is missing; the message names the expected path and the source.
        """
        split = split or self.split
        found = self.layout.find(data, split)
        for path in (found.images, found.only):
            if path is not None and not path.exists():
                raise UserError(f"{self.name}: {path} does not exist: {self._advice(data)}")
        folder = MaskFolder(
            images=str(found.images),
            masks=str(found.masks),
            names=str(self.names_file(names)),
            only=None if found.only is None else str(found.only),
            ignore=self.ignore,
            offset=self.offset,
            limit=limit,
            image_ending=self.layout.image_ending,
            mask_ending=self.layout.mask_ending,
            partial=partial,
            palette=self.palette,
        )
        if self.classes is not None and len(folder.labels) != self.classes:
            first = ", the background first" if self.background else ""
            classes = counted(len(folder.labels), "class", "classes")
            raise UserError(f"{folder.names} has {classes}, {self.name} has {self.classes}{first}")
        try:
            _ = folder.files, folder.classes
        except UserError as error:
            if not self.source:  # of the user's own: an error that names an argument stays one
                raise
            raise UserError(f"{self.name}: {error}{self._advice_about_masks(data, split, found)}") from None
        return folder

    def lists(self) -> tuple[str, ...]:
        """The benchmark's lists of class names, the default one first; `open` takes files as well."""
        if self.names is not None:
            return (self.names,)
        return tuple(name for name in LISTS if (NAMES / name / f"{self.name}.txt").is_file())

    def names_file(self, names: str | None = None) -> Path:
        """The file of a list of class names; None: the default list.

        Raises:
            ArgumentError: ``names`` is neither a list of this benchmark nor a file.
        """
        names = names or self.lists()[0]
        if names in self.lists() and self.names is None:
            return NAMES / names / f"{self.name}.txt"
        if not Path(names).is_file():
            raise ArgumentError("names", names, f"{self.name} takes {', '.join((*self.lists(), 'or a file'))}")
        return Path(names)

    def splits(self, data: str | Path) -> list[str]:
        """The official splits whose images exist below ``data``."""
        found = {split: self.layout.find(data, split) for split in self.full}
        return [s for s, f in found.items() if f.images.is_dir() and (f.only is None or f.only.is_file())]

    def _advice(self, data: str | Path) -> str:
        advice = f"get {self.title} from {self.source}" if self.source else "choose a folder that does"
        if self.source and data == Path():
            advice += ", and name the folder that it is in with --data ROOT"
        if others := self.splits(data):
            advice += f", or take the split {' or '.join(others)}, which is there"
        return advice

    def _advice_about_masks(self, data: str | Path, split: str, found: Locations) -> str:
        if not self.layout.raw:
            return f"; get the masks from {self.source}" if self.source else ""
        command = f"python -m eval.segmentation.prepare {self.name} --data {data} --split {split}"
        if found.raw is not None:
            return f"; convert {found.raw} with: {command}"
        raw = found.base / self.layout.raw[0].replace("{split}", split)
        return f"; unpack the labels from {self.source} into {raw} and convert them with: {command}"
