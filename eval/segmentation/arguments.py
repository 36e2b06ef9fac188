"""The flags that choose a segmentation benchmark and its data."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from eval.segmentation.benchmark import Benchmark
from eval.segmentation.registry import BENCHMARKS, CUSTOM, custom
from pacl.cli.parser import check_unused
from pacl.errors import ArgumentError, UserError, did_you_mean

OF_CUSTOM = (
    *("images", "masks", "classes", "only", "ignore", "offset"),
    *("image_ending", "mask_ending", "palette", "has_background"),
)
"""The flags of a benchmark of the user's own."""

OF_DATA = ("data", "split", "partial", *OF_CUSTOM)
"""All flags of `add_data`."""

_FOLDERS = ("images", "masks")
_FILES = ("classes", "only", "palette")
"""Flags of a benchmark of the user's own that name what must be there."""


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--split`` and ``--partial``, and the flags that describe a custom benchmark."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data", metavar="ROOT", type=Path, default=Path(), help="folder of the data sets (default: %(default)s)"
    )
    group.add_argument("--split", help="split of the data set (default: as in the literature)")
    group.add_argument("--partial", action="store_true", help="skip images that are missing or have no mask")
    group = parser.add_argument_group("custom", "a benchmark of your own; its paths are not relative to ROOT")
    group.add_argument("--images", metavar="DIR", help="folder of the images")
    group.add_argument("--masks", metavar="DIR", help="folder of their masks, PNGs whose values are class indices")
    group.add_argument("--classes", metavar="FILE", help="class names, one per line, with synonyms after semicolons")
    group.add_argument(
        "--only", metavar="FILE", help="names of the images to use, one per line, with or without ending (default: all)"
    )
    group.add_argument(
        "--ignore",
        metavar="N",
        type=int,
        nargs="*",
        default=[255],
        help="mask values to ignore (default: 255)",
    )
    group.add_argument(
        "--offset", metavar="N", type=int, default=0, help="mask value of the first class (default: %(default)s)"
    )
    group.add_argument(
        "--image_ending", metavar="TEXT", help="end of the images' names, such as _img.jpg (default: any suffix)"
    )
    group.add_argument(
        "--mask_ending", metavar="TEXT", default=".png",
        help="end of the masks' names in its place, such as _mask.png (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--palette", metavar="FILE",
        help="names and colours, such as CVAT's labelmap.txt, of masks whose colours stand for classes",
    )  # fmt: skip
    group.add_argument("--has_background", action="store_true", help='the first name is "none of the other classes"')


def input_files(args: argparse.Namespace) -> list[str]:
    """The files that the flags of `add_data`, and ``--names`` where it is a file, name."""
    named = (getattr(args, name, None) for name in (*_FILES, "names"))
    return [path for path in named if isinstance(path, str)]


def check_data(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse flags of `add_data` that none of the benchmarks reads.

    Raises:
        ArgumentError: one is given.
    """
    usual = argparse.ArgumentParser()
    add_data(usual)
    if CUSTOM not in names:
        check_unused(args, usual, OF_CUSTOM, f"on {names[0]}, only on {CUSTOM}")
    elif set(names) == {CUSTOM}:
        check_unused(args, usual, ["split"], f"on {CUSTOM}, which has no splits")


def find_benchmark(name: str, args: argparse.Namespace) -> Benchmark:
    """The benchmark of that name; ``custom`` is made from the flags of `add_data`.

    Raises:
        UserError: there is no such benchmark, ``custom`` lacks a flag or what it names, or a flag has no effect.
    """
    names = getattr(args, "benchmarks", [name])
    if name == CUSTOM:
        if missing := [f"--{flag}" for flag in ("images", "masks", "classes") if getattr(args, flag) is None]:
            raise UserError(f"custom needs {', '.join(missing)}")
        for flag in (*_FOLDERS, *_FILES):
            path, is_there = getattr(args, flag), os.path.isdir if flag in _FOLDERS else os.path.isfile
            if path is not None and not is_there(path):
                kind = "folder" if flag in _FOLDERS else "file"
                raise ArgumentError(flag, path, f"is not a {kind}" if os.path.exists(path) else "does not exist")
        check_data(args, names)
        return custom(
            Path(args.images).resolve(),  # not relative to --data
            Path(args.masks).resolve(),
            args.classes,
            only=args.only and Path(args.only).resolve(),
            ignore=tuple(args.ignore),
            offset=args.offset,
            background=args.has_background,
            image_ending=args.image_ending,
            mask_ending=args.mask_ending,
            palette=args.palette,
        )
    if name not in BENCHMARKS:
        known = (*BENCHMARKS, CUSTOM)
        meant = did_you_mean(name, known, count=2)
        advice = f"choose from {', '.join(known)}"
        if meant:
            advice = f"{meant} {advice}"
        raise UserError(f"no benchmark {name}: {advice}")
    check_data(args, names)
    return BENCHMARKS[name]
