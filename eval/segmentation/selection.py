"""What a command selects: a benchmark, its data, and its protocol with each list of names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from eval.common.class_names import find_misplaced
from eval.segmentation.arguments import find_benchmark
from eval.segmentation.benchmark import LISTS, Benchmark
from eval.segmentation.drawn_data import was_drawn
from eval.segmentation.protocol import Protocol, read_protocol
from eval.segmentation.registry import CUSTOM
from pacl.cli.settings import given_settings
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError

ARITHMETIC = ("precision", "window_batch")
"""Settings of the segmenter that are not part of a protocol."""


@dataclass(frozen=True)
class Selection:
    """One benchmark of the command, with its data found.

    Attributes:
        benchmark: the benchmark.
        split: its split.
        folders: images and masks, once for each list of names.
        protocols: the protocol, once for each list of names, with the settings that the command changes.
        drawn: whether `eval.segmentation.generate` drew the images: then the results are not the benchmark's.
    """

    benchmark: Benchmark
    split: str
    folders: list[MaskFolder]
    protocols: list[Protocol]
    drawn: bool

    @property
    def name(self) -> str:
        """Its name in results."""
        return f"{self.benchmark.name}-drawn" if self.drawn else self.benchmark.name

    @property
    def own(self) -> bool:
        """Whether its images are other than those of the published benchmark."""
        return self.drawn or self.benchmark.name == CUSTOM

    @property
    def full(self) -> int | None:
        """Number of images of the whole split; None where unknown."""
        folder = self.folders[0]
        if self.own:
            return None if folder.partial else len(replace(folder, limit=None))
        return self.benchmark.full.get(self.split)

    @property
    def title(self) -> str:
        """Its title in figures."""
        return f"drawn images as {self.benchmark.title}" if self.drawn else self.benchmark.title


def select(name: str, args: argparse.Namespace) -> Selection:
    """Find a benchmark's data and settings, as the flags of ``eval.segmentation`` state them.

    Raises:
        UserError: no such benchmark, missing data, or settings that make no sense.
    """
    benchmark = find_benchmark(name, args)
    changes = {key: value for key, value in given_settings(args).items() if key not in ARITHMETIC}
    if args.present:
        changes["present"] = True

    def protocol(**more: str) -> Protocol:
        return read_protocol(
            args.protocol, benchmark.name, background=benchmark.background, changes={**changes, **more}
        )

    usual = protocol().names
    # A protocol's list that this benchmark lacks is replaced; a list that does not exist at all is an error.
    lists = args.names or [benchmark.lists()[0] if usual in LISTS and usual not in benchmark.lists() else usual]
    protocols = [protocol(names=names) for names in dict.fromkeys(lists)]
    folders = [
        benchmark.open(args.data, args.split, names=p.names, limit=args.limit, partial=args.partial) for p in protocols
    ]
    for folder, own in zip(folders, protocols, strict=True):
        if len(folder.labels) != len(folders[0].labels):
            raise ArgumentError("names", own.names, f"{len(folder.labels)} classes, not {len(folders[0].labels)}")
        check_order(benchmark, folder, folders[0])
    if not len(folders[0]):
        raise UserError(f"{name}: no images")
    drawn = name != CUSTOM and was_drawn(benchmark.layout, folders[0].images, args.split or benchmark.split)
    return Selection(benchmark, args.split or benchmark.split, folders, protocols, drawn)


def check_order(benchmark: Benchmark, folder: MaskFolder, first: MaskFolder) -> None:
    """Refuse class names in another order than the classes: each would be compared with the masks of another class.

    Args:
        benchmark: the benchmark.
        folder: images and masks with a list of names.
        first: the same with the first list, by whose names a palette numbers the classes.

    Raises:
        ArgumentError: ``names``: a name is in the place of a class and is the own name of another one.
    """
    own = first if benchmark.palette else replace(folder, names=str(benchmark.names_file(None)))
    if found := find_misplaced([label.name for label in folder.labels], [label.name for label in own.labels]):
        advice = f'write the names in the order of {own.names}, or "{found.name}={found.place}" if that is meant'
        raise ArgumentError("names", folder.names, f"{found}; {advice}")
