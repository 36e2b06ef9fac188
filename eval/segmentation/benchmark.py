"""One segmentation benchmark: where its files are looked for, how its masks become classes, how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pacl.data.masks import MaskFolder
from pacl.errors import UserError

NAMES = Path(__file__).parent / "names"
LISTS = ("plain", "sclip", "clearclip", "proxyclip", "everyday")


@dataclass(frozen=True)
class Layout:
    """Where a data set's files lie. Places are tried in order; "{split}" stands for the split.

    Attributes:
        bases: the data set's folder below ROOT.
        images: folder of the pictures below the base.
        masks: folder of the masks below the base.
        only: file below the base that lists the split's pictures; without one, the folder is the split.
        image_ending: how the pictures' names end; None: a dot and any suffix.
        mask_ending: what stands in its place in the masks' names.
        raw: folder below the base, or ROOT, of the label files that masks are converted from.
        raw_ending: what stands in place of the picture's ending in their names.
    """

    bases: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    only: tuple[str, ...] = ()
    image_ending: str | None = None
    mask_ending: str = ".png"
    raw: tuple[str, ...] = ()
    raw_ending: str = ".png"


@dataclass(frozen=True)
class Place:
    """A benchmark's files below one ROOT: what is there, or else where it belongs.

    Attributes:
        base: the data set's folder.
        images: the pictures.
        masks: the masks.
        only: the list of the split's pictures; None: the folder is the split.
        raw: the label files before conversion; None: there are none, or none are needed.
    """

    base: Path
    images: Path
    masks: Path
    only: Path | None
    raw: Path | None


@dataclass(frozen=True)
class Benchmark:
    """One set of pictures with masks, and how it is scored.

    Attributes:
        name: as on the command line.
        title: as in tables.
        classes: number of classes C that are scored; None: as many as the names file has.
        background: whether class 0 is "none of these".
        split: the one that is measured if none is named.
        full: number of pictures of every official split.
        source: where the data set is published.
        layout: where its files lie.
        ignore: mask values that are not scored.
        offset: mask value of class 0.
        label_map: table of `eval.segmentation.label_maps` that converts its masks; None: they are scored as published.
        names: file of class names in place of the lists in ``eval/segmentation/names``.
    """

    name: str
    title: str
    classes: int | None
    background: bool
    split: str
    full: dict[str, int]
    source: str
    layout: Layout
    ignore: tuple[int, ...] = (255,)
    offset: int = 0
    label_map: np.ndarray | None = field(default=None, repr=False, compare=False)
    names: str | None = None

    def open(
        self,
        root: str | Path,
        split: str | None = None,
        names: str | None = None,
        limit: int | None = None,
        partial: bool = False,
    ) -> MaskFolder:
        """The benchmark's pictures and masks; masks come out as classes 0..C-1, or `pacl.data.masks.IGNORED`.

        Args:
            root: ``--data``.
            split: None takes the one that is usually measured.
            names: ``plain`` (default), ``sclip``, ``clearclip``, ``proxyclip``, ``everyday`` or a file of class names.
            limit: The first so many pictures only.
            partial: Take the pictures that are there and have a mask, where some are missing; else that is an error.

        Raises:
            UserError: Something is missing; the message says where it belongs and where it is to be had.
        """
        split = split or self.split
        place = self.find(root, split)
        if not place.images.is_dir():
            raise UserError(f"{self.name}: {place.images} does not exist: {self._other_splits(root)}")
        if place.only is not None and not place.only.is_file():
            raise UserError(f"{self.name}: {place.only} does not exist: {self._other_splits(root)}")
        folder = MaskFolder(
            images=str(place.images),
            masks=str(place.masks),
            names=str(self.names_file(names)),
            only=None if place.only is None else str(place.only),
            ignore=self.ignore,
            offset=self.offset,
            limit=limit,
            image_ending=self.layout.image_ending,
            mask_ending=self.layout.mask_ending,
            partial=partial,
        )
        if self.classes is not None and len(folder.labels) != self.classes:
            first = ", the background first" if self.background else ""
            raise UserError(f"{folder.names} has {len(folder.labels)} classes, {self.name} has {self.classes}{first}")
        try:
            _ = folder.files
        except UserError as error:
            raise UserError(f"{self.name}: {error}{self._how_to_get_masks(root, split, place)}") from None
        return folder

    def find(self, root: str | Path, split: str) -> Place:
        """Where the files of a split are, or belong.

        Raises:
            UserError: ``root`` is no folder.
        """
        root = Path(root)
        if not root.is_dir():
            raise UserError(f"--data {root}: is not a folder")
        places = [self._place(root, base, split) for base in self.layout.bases]

        def worth(place: Place) -> int:
            """Pictures and masks are better than pictures alone, these than a folder of the right name, or nothing."""
            if not place.images.is_dir():
                return place.base.is_dir() and place.base != root
            return 3 if _holds(place.masks, self.layout.mask_ending) else 2

        return max(places, key=worth)  # the first of equals

    def lists(self) -> tuple[str, ...]:
        """What `open` takes as ``names``, beside files: the benchmark's lists of class names, the usual one first."""
        if self.names is not None:
            return (self.names,)
        return tuple(name for name in LISTS if (NAMES / name / f"{self.name}.txt").is_file())

    def names_file(self, names: str | None = None) -> Path:
        """The file of a list of class names, or the file itself.

        Raises:
            UserError: There is neither such a list of this benchmark nor such a file.
        """
        names = names or self.lists()[0]
        if names in self.lists() and self.names is None:
            return NAMES / names / f"{self.name}.txt"
        if not Path(names).is_file():
            raise UserError(f"--names {names}: {self.name} takes {', '.join((*self.lists(), 'or a file'))}")
        return Path(names)

    def _place(self, root: Path, base: str, split: str) -> Place:
        layout, folder = self.layout, root / base

        def first(places: Sequence[str], ending: str | None = None, below: Sequence[Path] = (folder,)) -> Path:
            paths = [start / place.replace("{split}", split) for start in below for place in places]
            there = (path for path in paths if (path.exists() if ending is None else _holds(path, ending)))
            return next(there, paths[0])

        raw = first(layout.raw, layout.raw_ending, (folder, root)) if layout.raw else None
        return Place(
            base=folder,
            images=first(layout.images),
            masks=first(layout.masks, layout.mask_ending),
            only=first(layout.only) if layout.only else None,
            raw=raw if raw is not None and _holds(raw, layout.raw_ending) else None,
        )

    def splits(self, root: str | Path) -> list[str]:
        """The official splits whose pictures are below ``root``."""
        places = {split: self.find(root, split) for split in self.full}
        return [s for s, p in places.items() if p.images.is_dir() and (p.only is None or p.only.is_file())]

    def _other_splits(self, root: str | Path) -> str:
        advice = f"get {self.title} from {self.source}" if self.source else "choose a folder that does"
        if others := self.splits(root):
            advice += f", or take --split {' or '.join(others)}, which is there"
        return advice

    def _how_to_get_masks(self, root: str | Path, split: str, place: Place) -> str:
        if not self.layout.raw:
            return f"; masks are to be had from {self.source}" if self.source else ""
        command = f"python -m eval.segmentation.prepare {self.name} --data {root} --split {split}"
        if place.raw is not None:
            return f"; make them from {place.raw} with: {command}"
        raw = place.base / self.layout.raw[0].replace("{split}", split)
        return f"; unpack the labels from {self.source} into {raw} and convert them with: {command}"


def _holds(folder: Path, ending: str) -> bool:
    """Whether a file of that ending lies in or below the folder; COCO's masks lie beside what they are made from."""
    return any(ending != ".png" or not path.stem.endswith("TrainIds") for path in folder.glob(f"**/*{ending}"))
