"""Make a benchmark's masks where it needs a conversion, and check a data set before hours are spent on it.

    python -m eval.segmentation.prepare voc21 --data ROOT
    python -m eval.segmentation.prepare coco_stuff --data ROOT --split val2017 --workers 8
    python -m eval.segmentation.prepare context60 --data ROOT --check
    python -m eval.segmentation.prepare coco_object --data READ_ONLY --out ROOT2

Converted are COCO-Stuff's 182 values to 171 classes, COCO-Object, Cityscapes' label ids to train ids and Pascal
Context's MATLAB files to 59 classes and background. Masks that are there already are kept, so that a run which was
stopped goes on where it was. With --out they are written into the same layout elsewhere, beside links to the pictures:
evaluation is then given --data ROOT2.

Checked are the numbers of pictures, that each picture and mask can be read and is of the other's size, and that masks
hold the data set's values and no others. The exit code is 1 when something is wrong, else 0.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from eval.common.command import new_parser
from eval.segmentation import label_maps
from eval.segmentation.arguments import add_data, find_benchmark
from eval.segmentation.benchmark import Benchmark
from eval.segmentation.layout import FileLayout, Locations, make_writable_folder
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.cli.messages import run_verb
from pacl.data.masks import MaskFolder, read_mask
from pacl.errors import UserError
from pacl.files import written_whole

SHOWN = 20
"""Problems, and classes that do not occur, that are printed; the rest is counted."""

MOST = 5
"""Classes whose share of the pixels is printed."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.segmentation.prepare", __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join((*BENCHMARKS, CUSTOM)))
    add_data(parser)
    parser.add_argument("--check", action="store_true", help="check only, convert nothing")
    parser.add_argument("--out", metavar="ROOT2", type=Path, help="write masks here, where ROOT is read-only")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, check, and print what is there and what is wrong."""
    args = build_parser().parse_args(argv)
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: use 1 or more")
    benchmark = find_benchmark(args.benchmark, args)
    split = args.split or benchmark.split
    problems: list[str] = []
    lacking = None
    if benchmark.label_map is None and args.out is not None:
        raise UserError(f"--out {args.out}: {benchmark.name} needs no conversion; check it without --out")
    if benchmark.label_map is not None and not args.check:
        place = benchmark.layout.find(args.data, split)
        if args.out is not None:
            place = linked(place, args.data, args.out)
        problems, lacking = convert(benchmark.layout, benchmark.label_map, place, args.workers)
    root = args.out or args.data
    try:
        folder = benchmark.open(root, split, partial=args.partial)
    except UserError as error:  # say so, and check what is there
        try:
            folder = benchmark.open(root, split, partial=True)
        except UserError:
            raise error from None
        problems.append(lacking or str(error))
    findings = check(folder, args.workers)
    problems += [finding.problem for finding in findings if finding.problem]
    full = benchmark.full.get(split)
    if full is not None and len(findings) > full:
        problems.append(f"{folder.images} has {len(findings):,} pictures with masks, {split} has {full:,}")
    report(benchmark, split, folder, findings)
    for problem in problems[:SHOWN]:
        print(f"wrong: {problem}")
    if len(problems) > SHOWN:
        print(f"wrong: and {len(problems) - SHOWN:,} more")
    return 1 if problems else 0


def track(
    function: Callable[[Item], Answer], items: Sequence[Item], workers: int, what: str, start: tuple = ()
) -> Iterator[Answer]:
    """``map`` in several processes with a progress bar, in order.

    Args:
        function: What is done with an item.
        items: All items.
        workers: Number of processes; 1 is this one.
        what: What the bar says.
        start: A function and its arguments that each process calls first.
    """
    from rich.console import Console
    from rich.progress import track as bar

    console = Console(stderr=True)
    if workers == 1 or len(items) < 2:
        if start:
            start[0](*start[1:])
        yield from bar(map(function, items), what, len(items), console=console, transient=True)
        return
    pool = ProcessPoolExecutor(min(workers, len(items)), initializer=start[0] if start else None, initargs=start[1:])
    try:
        answers = pool.map(function, items, chunksize=8)
        yield from bar(answers, what, len(items), console=console, transient=True)
    finally:  # after Ctrl-C, what has not begun does not begin
        pool.shutdown(cancel_futures=True)


# --- Conversion -------------------------------------------------------------------------------------------------


def linked(place: Locations, root: Path, out: Path) -> Locations:
    """The same place below another ROOT: pictures and their list are linked to, masks will be written.

    Raises:
        UserError: It cannot be written to, or holds something else in the links' place.
    """
    make_writable_folder(out, "out")

    def link(path: Path) -> Path:
        there = out / path.relative_to(root)
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            if not there.is_symlink() and not there.exists():
                there.symlink_to(path.resolve(), target_is_directory=path.is_dir())
        except OSError as error:
            raise UserError(f"{there}: cannot link to {path} ({error.strerror or error})") from None
        if there.resolve() != path.resolve():
            raise UserError(f"{there} is not a link to {path}: choose another --out")
        return there

    only = place.only if place.only is None or not place.only.is_file() else link(place.only)
    images = link(place.images) if place.images.is_dir() else place.images
    base, masks = (out / path.relative_to(root) for path in (place.base, place.masks))
    return Locations(base, images, masks, only, place.raw)


def convert(layout: FileLayout, table: np.ndarray, place: Locations, workers: int) -> tuple[list[str], str | None]:
    """Write the masks that are not there.

    Args:
        layout: Of the benchmark; says how its files end.
        table: Of `eval.segmentation.label_maps`.
        place: Where its files are; the masks are written there.
        workers: Number of processes.

    Returns:
        A line for each label file that could not be converted, and one about pictures without a label file, if any.

    Raises:
        UserError: The label files do not belong to the data set, or there is no place to write to.
    """
    if place.raw is None or not place.images.is_dir():
        return [], None  # nothing to convert: opening the benchmark tells what is missing
    raw = MaskFolder(
        images=str(place.images),
        masks=str(place.raw),
        names="",
        only=None if place.only is None else str(place.only),
        image_ending=layout.image_ending,
        mask_ending=layout.raw_ending,
    )
    lacking = None
    try:
        files = raw.files
    except UserError as error:
        lacking = str(error)
        files = replace(raw, partial=True).files
    pairs = [(path, place.masks / (name + layout.mask_ending)) for name, _, path in files]
    todo = [(path, mask) for path, mask in pairs if not mask.exists()]
    if todo:
        if layout.raw_ending == ".mat":
            check_names(place.raw)
        try:
            make_writable_folder(place.masks, "data")
        except UserError as error:
            raise UserError(f"{error}: --out ROOT2 writes the masks there") from None
    answers = list(track(partial(convert_one, table=table), todo, workers, "Converting")) if todo else []
    problems = [answer for answer in answers if answer is not None]
    there = f", {len(pairs) - len(todo):,} were there" if len(pairs) > len(todo) else ""
    print(f"{len(todo) - len(problems):,} masks written to {place.masks}{there}")
    return problems, lacking


def check_names(raw: Path) -> None:
    """Compare Pascal Context's own labels.txt, where it lies with the label files, with the table."""
    for labels in (raw / "labels.txt", raw.parent / "labels.txt"):
        if labels.is_file():
            return label_maps.check_context_names(labels)


def convert_one(pair: tuple[Path, Path], table: np.ndarray) -> str | None:
    """Convert one label file; what is wrong with it, or None."""
    path, mask = pair
    try:
        raw = label_maps.read_context(path) if path.suffix == ".mat" else read_mask(path)
        values = label_maps.relabel(raw, table, path)
        with written_whole(mask) as aside:
            Image.fromarray(values).save(aside)
    except UserError as error:
        return str(error)
    return None


# --- Check ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What one picture and its mask hold.

    Attributes:
        size: width and height of the mask.
        pixels: int64 [C + 1]: its pixels of each class; the last number counts those that are not scored.
        problem: what is wrong, or None; then the others are not known.
    """

    size: tuple[int, int] = (0, 0)
    pixels: np.ndarray | None = None
    problem: str | None = None


_folder: MaskFolder
"""What this process checks; handed over once, because the list of a large folder's files is long."""


def start_check(folder: MaskFolder) -> None:
    """Tell a process which folder `check_one` means."""
    global _folder
    _folder = folder


def check_one(index: int) -> Finding:
    """Read one picture and its mask."""
    try:
        item = _folder[index]
        item.picture()
    except UserError as error:
        return Finding(problem=str(error))
    classes = len(_folder.labels)
    counted = np.where(item.mask < 0, classes, item.mask)  # [H, W]
    height, width = item.mask.shape
    return Finding((width, height), np.bincount(counted.ravel(), minlength=classes + 1))


def check(folder: MaskFolder, workers: int) -> list[Finding]:
    """Read every picture and mask of a folder."""
    return list(track(check_one, range(len(folder)), workers, "Checking", (start_check, folder)))


def report(benchmark: Benchmark, split: str, folder: MaskFolder, findings: Sequence[Finding]) -> None:
    """Print what a folder holds."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{benchmark.name} {split}: {benchmark.title}", title_justify="left", show_header=False)
    full = benchmark.full.get(split)
    number = f"{len(findings):,}"
    if full is not None:
        number += f" of {full:,}" + (": a sample" if len(findings) < full else "")
    table.add_row("pictures", number)
    good = [finding for finding in findings if finding.pixels is not None]
    if good:
        widths, heights = zip(*(finding.size for finding in good), strict=True)
        table.add_row("width", f"{min(widths)} to {max(widths)}")
        table.add_row("height", f"{min(heights)} to {max(heights)}")
        pixels = np.sum([x for finding in good if (x := finding.pixels) is not None], axis=0)  # [C + 1]
        scored = pixels[:-1].sum()
        table.add_row("not scored", f"{pixels[-1] / pixels.sum():.1%} of the pixels")
        names = [label.name for label in folder.labels]
        table.add_row("classes", f"{np.count_nonzero(pixels[:-1])} of {len(names)} occur")
        most = [i for i in np.argsort(-pixels[:-1], kind="stable")[:MOST] if pixels[i]]
        table.add_row("most", ", ".join(f"{names[i]} {pixels[i] / scored:.1%}" for i in most))
        if absent := [name for name, count in zip(names, pixels, strict=False) if not count]:
            table.add_row("absent", ", ".join(absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else ""))
    Console().print(table)


if __name__ == "__main__":
    run_verb("eval.segmentation.prepare", main)
