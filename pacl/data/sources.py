"""One source of captioned pictures as a configuration names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pacl.data.lists import read_list
from pacl.data.pairs import FilePairs, PairSource, Part, read_coco, read_folders, read_table
from pacl.data.pairs import hold_out as hold_out_of
from pacl.errors import UserError

SHORT = ("images", "image_column", "caption_column", "hold_out")  # what may be said of the one named in short


def sources_of(pairs: str | None, train: list[Source], **short: Any) -> list[Source]:
    """The training sources of a configuration: the one named in short (`SHORT` tells of it), and those of the list."""
    return [*([Source(pairs, **short)] if pairs else []), *train]


@dataclass
class Source:
    """Captioned pictures on disk.

    Attributes:
        pairs: a table of pictures and captions (CSV, TSV, Flickr's token file), COCO's captions JSON, a folder with
            one folder a class, or WebDataset shards ("data/{000..331}.tar", a list of them, any URL that webdataset
            opens).
        images: folder of the pictures; null looks beside the table, and in images/ there.
        format: "auto" goes by the name: .json is coco, a folder is folders, .tar or a URL is shards, else table.
        image_column: the pictures' column, by name; null finds it.
        caption_column: the captions' column, by name; null finds it.
        names: of a folder by class, a file with a line "folder: name; other name" each; null takes folders' names.
        template: of a folder by class, the sentence that names go into.
        only: a file with the names of the pictures to use, one a line (a split).
        hold_out: this many pictures are kept for validation: the same ones in every run.
        weight: share of the steps' pictures beside other sources; null for all: every picture once an epoch.
        size: of shards, how many pairs they hold: the length of an epoch.
    """

    pairs: str
    images: str | None = None
    format: Literal["auto", "table", "coco", "folders", "shards"] = "auto"
    image_column: str | None = None
    caption_column: str | None = None
    names: str | None = None
    template: str = "a photo of a {}."
    only: str | None = None
    hold_out: int = 0
    weight: float | None = None
    size: int | None = None

    @property
    def kind(self) -> str:
        """The format, found if it is "auto"."""
        if self.format != "auto":
            return self.format
        if "://" in self.pairs or self.pairs.endswith((".tar", ".tar.gz", ".tgz")):
            return "shards"
        if Path(self.pairs).is_dir():
            return "folders"
        return "coco" if self.pairs.endswith(".json") else "table"

    def read(self) -> FilePairs:
        """All pairs of a source that is not shards.

        Raises:
            UserError: what `pacl.data.pairs` says of the file.
        """
        if self.kind == "table":
            return read_table(self.pairs, self.images, self.image_column, self.caption_column)
        if self.kind == "coco":
            return read_coco(self.pairs, self.images)
        if self.kind == "folders":
            return read_folders(self.pairs, self.names, self.template)
        raise UserError(f"{self.pairs}: shards are read as a stream, alone or beside other shards")

    def split(self, pairs: FilePairs) -> tuple[PairSource, PairSource]:
        """The training and the validation part of the pairs read."""
        chosen: PairSource = pairs
        if self.only is not None:
            wanted = set(read_list(self.only))
            found = [
                i
                for i in range(len(pairs))
                if not wanted.isdisjoint((pairs.paths[i], PurePosixPath(pairs.paths[i]).name))
            ]
            if not found:
                raise UserError(f"{self.only}: names no picture of {self.pairs}")
            chosen = Part(pairs, found)
        if not 0 <= self.hold_out < len(chosen):
            raise UserError(
                f"hold_out {self.hold_out}: {self.pairs} has {len(chosen)} pictures, and some are to train on"
            )
        return hold_out_of(chosen, self.hold_out)
