"""A source of image-caption pairs as it is configured, and the formats that it may have.

To add a format, write a reader that returns `pacl.data.pairs.FilePairs`: in `pacl.data.readers` for one file, in
`pacl.data.folders` for a folder. Then add its name to the type of `Source.format` and to `_SETTINGS`, its call to
`Source._read`, and how it is recognised to `Source.kind` (a folder: to `pacl.data.folders.folder_format`). The data
check and the training commands then read it. A table in another type of file is not a format: it belongs in
`pacl.data.tables.read_rows`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from pacl.data.folders import folder_format, read_caption_files, read_folders, read_metadata
from pacl.data.image_paths import check_images, normal_path
from pacl.data.pairs import FilePairs, PairSource, Subset
from pacl.data.pairs import hold_out as hold_out_of
from pacl.data.readers import read_json, read_list, read_table
from pacl.data.shards import SHARD_SUFFIXES
from pacl.errors import ArgumentError, UserError
from pacl.printing import counted

SHORT = ("images", "image_column", "caption_column", "hold_out")
"""Settings of `Source` that a data module also has itself, for its first training source."""

FEWEST_HELD = 20
"""Images below which the recall of a validation says little: by chance it is above a quarter."""

FEWEST = 100
"""Images that are enough to try a training, `FEWEST_HELD` of them held out."""

_COLUMNS = ("image_column", "caption_column")
_SPLIT = ("only", "hold_out")
_SETTINGS: dict[str, tuple[str, ...]] = {
    "table": ("images", *_COLUMNS, *_SPLIT),
    "json": ("images", *_COLUMNS, *_SPLIT),
    "metadata": (*_COLUMNS, *_SPLIT),
    "caption_files": _SPLIT,
    "folders": ("names", "template", *_SPLIT),
    "shards": ("size",),
}
"""The settings that only some formats have, for each format."""


def sources_of(pairs: str | None, train: list[Source], **short: Any) -> list[Source]:
    """The training sources of a data module: the one that ``pairs`` and `SHORT` describe, then ``train``."""
    return [*([Source(pairs, **short)] if pairs else []), *train]


def check_short(pairs: str | None, short: Mapping[str, Any]) -> None:
    """Refuse settings of `SHORT` without ``pairs``, which they describe: they would act on nothing.

    Raises:
        ArgumentError: one is set.
    """
    for name, value in short.items():
        if not pairs and value not in (None, 0):
            raise ArgumentError(name, value, "acts on pairs alone, which is not set; each entry of train has its own")


def describe_few(train: Sequence[Source], images: int, held: int) -> str | None:
    """Why the images of training sources are too few for a batch, which needs two, in a line; None if they are not.

    Args:
        train: the sources.
        images: number of their images that train.
        held: number of their images that ``hold_out`` keeps for validation.
    """
    if images >= 2:
        return None
    beside = held or any(source.hold_out for source in train)  # of one image none is held out, of more some
    needs = f"2 beside the {beside:d} that hold_out keeps for validation: {2 + beside} images" if beside else "2 images"
    use = f"; it shows something from {FEWEST} on" if 2 + beside < FEWEST else ""
    return (
        f"{', '.join(str(source.pairs) for source in train)}: only {counted(images, 'image')} to train on; "
        f"contrastive training needs at least {needs}{use}"
    )


@dataclass
class Source:
    """Images with captions.

    Attributes:
        pairs: a table of images and captions (CSV, TSV, Flickr's token file, JSON lines, parquet), a captions JSON
            (COCO's format and others), a folder with caption files beside its images, with metadata.jsonl or with one
            folder per class, or WebDataset shards ("data/{000..331}.tar", "data/*.tar", a folder of them, several
            joined by "::", or any URL that webdataset opens).
        images: folder of the images; null searches the folder of the table and images/ in it.
        format: "auto" depends on the name, and of a folder on what is in it: .json is json, .tar or a URL is shards,
            other files are tables; folders has classes, metadata is Hugging Face's imagefolder.
        image_column: name of the column with the images; null detects it.
        caption_column: name of the column with the captions; null detects it.
        names: for a folder by class, a file with lines "folder: name; other name"; null uses the folder names.
        template: for a folder by class, the sentence that class names are put into.
        only: a file with the images to use (a split), one per line: their paths, or the last parts of these; not for
            shards.
        hold_out: of a training source, number of images that are kept for validation, or a share of them below 1, such
            as 0.1; the same ones in every run. A share holds out at least `FEWEST_HELD` images, if these are not above
            a fifth of all. Not for shards.
        weight: of a training source, share of the images per epoch, relative to other sources; null for all sources:
            every image once; 0: none of them trains, those of ``hold_out`` still validate.
        size: of shards, the number of pairs, which is the length of an epoch; null counts them.
    """

    pairs: str
    images: str | None = None
    format: Literal["auto", "table", "json", "folders", "caption_files", "metadata", "shards"] = "auto"
    image_column: str | None = None
    caption_column: str | None = None
    names: str | None = None
    template: str = "a photo of a {}."
    only: str | None = None
    hold_out: int | float = 0
    weight: float | None = None
    size: int | None = None

    @cached_property
    def kind(self) -> str:
        """The format; if that is "auto", it is recognised from the name or from what is in the folder.

        Raises:
            UserError: an error of `folder_format`.
        """
        if self.format != "auto":
            return self.format
        name = self.pairs.rpartition("/")[2]
        if "://" in self.pairs or "::" in self.pairs or name.endswith(SHARD_SUFFIXES) or ".tar*" in name:
            return "shards"
        if Path(self.pairs).is_dir():
            return folder_format(self.pairs)
        return "json" if self.pairs.lower().endswith(".json") else "table"

    def check_exists(self) -> None:
        """Refuse a table, a folder of pairs or a folder of images that does not exist; shards may be anywhere.

        Raises:
            UserError: it does not exist.
        """
        if not os.path.isdir(self.pairs) and self.kind != "shards" and not os.path.exists(self.pairs):
            raise UserError(f"{self.pairs} does not exist")
        check_images(self.images, self.pairs)

    def check_settings(self) -> None:
        """Refuse settings that do not act on a source of this kind.

        Raises:
            ArgumentError: one is set.
        """
        some = {setting for own in _SETTINGS.values() for setting in own}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in some and each.name not in _SETTINGS[self.kind] and value != each.default:
                raise ArgumentError(each.name, value, f"not for {self.pairs}, read as {self.kind}")

    def read(self) -> FilePairs:
        """Read all pairs, also those that ``only`` does not list; what it lists and the source lacks is ``unused``.

        Raises:
            ArgumentError: a setting that does not act on a source of this kind.
            UserError: the source is shards, ``only`` has a name that fits several images, or an error of
                `pacl.data.readers` or `pacl.data.folders`.
        """
        self.check_settings()
        self.check_exists()
        pairs = self._read()
        if self.only is not None:
            pairs.listed[self.only], lacking = find_listed(pairs, self.only)
            if lacking:
                pairs.unused[f"names in {self.only} that are no images of it (first: {lacking[0]})"] = len(lacking)
        return pairs

    def _read(self) -> FilePairs:
        columns = self.image_column, self.caption_column
        if self.kind == "table":
            return read_table(self.pairs, self.images, *columns)
        if self.kind == "json":
            return read_json(self.pairs, self.images, *columns)
        if self.kind == "metadata":
            return read_metadata(self.pairs, *columns)
        if self.kind == "caption_files":
            return read_caption_files(self.pairs)
        if self.kind == "folders":
            return read_folders(self.pairs, self.names, self.template)
        raise UserError(f"{self.pairs}: shards can only be training data, without sources of another format")

    def split(self, pairs: FilePairs) -> tuple[PairSource, PairSource]:
        """Split the pairs of a training source into training and validation pairs, by ``only`` and ``hold_out``.

        With ``weight`` 0 there are no training pairs.

        Raises:
            UserError: ``only`` lists none of the images.
            ArgumentError: ``hold_out`` is no number or share that leaves images for training.
        """
        chosen = self.chosen(pairs)
        kept, held = hold_out_of(chosen, self._held(len(chosen)))
        return (Subset(kept, []) if self.weight == 0 else kept), held

    def validation(self, pairs: FilePairs) -> PairSource:
        """The pairs of a validation source: those that ``only`` lists.

        Raises:
            UserError: ``only`` lists none of the images, or ``hold_out`` or ``weight`` is set.
        """
        for name, value in (("hold_out", self.hold_out), ("weight", self.weight)):
            if value:
                raise UserError(f"val: {self.pairs} has {name} {value}, which only training sources have")
        return self.chosen(pairs)

    def chosen(self, pairs: FilePairs) -> PairSource:
        """The pairs that ``only`` lists; all without it.

        Raises:
            UserError: it lists none of them.
        """
        if self.only is None:
            return pairs
        found = pairs.listed.get(self.only)
        if found is None:  # pairs that another source has read
            found, _ = find_listed(pairs, self.only)
        if not len(found):
            raise UserError(f"{self.only}: lists no image of {self.pairs}")
        return Subset(pairs, found)

    def _held(self, images: int) -> int:
        """The number of images that ``hold_out`` keeps for validation.

        Raises:
            ArgumentError: it is no number or share that leaves images for training.
        """
        if 0 < self.hold_out < 1:
            count = max(min(1, images - 1), round(self.hold_out * images), min(FEWEST_HELD, images // 5))
        else:
            count = int(self.hold_out) if float(self.hold_out).is_integer() else -1
        if not 0 <= count < images:
            most = f"less than the {counted(images, 'image')} of {self.pairs}"
            raise ArgumentError("hold_out", self.hold_out, f"must be a share, such as 0.1, or a whole number {most}")
        return count


def find_listed(pairs: FilePairs, listed: str) -> tuple[np.ndarray, list[str]]:
    """The images that a list names: each by its path, or by the last part of it where only one image has that.

    Args:
        pairs: the images.
        listed: file of the list, see `read_list`.

    Returns:
        The indices of the images in their order, int64, and the names that are of none of them.

    Raises:
        UserError: a name is the last part of several paths.
    """
    paths = {normal_path(pairs.root, pairs.paths[i]): i for i in range(len(pairs))}
    last: dict[str, list[int]] = {}
    for i in range(len(pairs)):
        last.setdefault(PurePosixPath(pairs.paths[i]).name, []).append(i)
    found, lacking = set(), []
    for name in read_list(listed):
        exact = paths.get(normal_path(pairs.root, name))
        fitting = last.get(name, []) if exact is None else [exact]
        if len(fitting) > 1:
            one, other = (pairs.paths[i] for i in fitting[:2])
            raise UserError(f"{listed}: {name} may be {one} or {other}; write the path")
        found.update(fitting)
        if not fitting:
            lacking.append(name)
    return np.array(sorted(found), np.int64), lacking
