"""Convert a benchmark's labels to masks where needed, and check a data set before a long evaluation.

    python -m eval.segmentation.prepare voc21 --data ROOT
    python -m eval.segmentation.prepare coco_stuff --data ROOT --split val2017 --workers 8
    python -m eval.segmentation.prepare context60 --data ROOT --check
    python -m eval.segmentation.prepare coco_object --data READ_ONLY --out ROOT2

Conversions: COCO-Stuff's 182 values to 171 classes, COCO-Object, Cityscapes' label ids to train ids, and Pascal
Context's MATLAB files to 59 classes and background. Existing masks are kept, so that an interrupted run continues where
it stopped. With --out, masks are written to the same layout in another folder, next to links to the images: evaluate
with --data ROOT2.

Checks: the number of images; that every image and mask can be read and they have the same size; that masks hold only
values of the data set. Lines with "wrong:" are mistakes, and the exit code is then 1, else 0. Lines with "odd:" say
what may be a mistake, such as a class that no mask shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from eval.common.command import new_parser
from eval.common.tables import terminal_table
from eval.segmentation import label_maps
from eval.segmentation.arguments import add_data, find_benchmark
from eval.segmentation.benchmark import Benchmark
from eval.segmentation.label_check import Finding, check_one
from eval.segmentation.label_check import problems as find_problems
from eval.segmentation.label_check import warnings as find_warnings
from eval.segmentation.layout import FileLayout, Locations, make_writable_folder
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.cli.messages import one_line, run_verb
from pacl.cli.progress import tracked
from pacl.data.masks import MaskFolder, read_mask
from pacl.data.workers import cores, usable
from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write
from pacl.printing import counted, escaped

SHOWN = 20
"""Number of problems, and of absent classes, that are printed."""

MOST = 5
"""Number of the most frequent classes that are printed."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.segmentation.prepare", __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join((*BENCHMARKS, CUSTOM)))
    add_data(parser)
    parser.add_argument("--check", action="store_true", help="check only, convert nothing")
    parser.add_argument("--out", metavar="ROOT2", type=Path, help="write the masks here, for a read-only ROOT")
    parser.add_argument("--workers", type=int, default=cores(), metavar="N", help="processes (default: one per core)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, check, and print a summary and all problems."""
    args = build_parser().parse_args(argv)
    if args.workers < 1:
        raise ArgumentError("workers", args.workers, "must be at least 1")
    benchmark = find_benchmark(args.benchmark, args)
    split = args.split or benchmark.split
    problems: list[str] = []
    lacking = None
    if benchmark.label_map is None and args.out is not None:
        raise ArgumentError("out", args.out, f"{benchmark.name} needs no conversion; check it without --out")
    if benchmark.label_map is not None and not args.check:
        found = benchmark.layout.find(args.data, split)
        if args.out is not None:
            found = link_images(found, args.data, args.out)
        problems, lacking = convert(benchmark.layout, benchmark.label_map, found, args.workers)
    root = args.out or args.data
    try:
        folder = benchmark.open(root, split, partial=args.partial)
    except UserError as error:  # report it, and check the rest
        try:
            folder = benchmark.open(root, split, partial=True)
        except UserError:
            raise error from None
        problems.append(lacking or str(error))
    findings = check_all(folder, args.workers)
    problems += find_problems(folder, findings)
    full = benchmark.full.get(split)
    if full is not None and len(findings) > full:
        problems.append(f"{folder.images} has {len(findings):,} images with masks, {split} has {full:,}")
    report(benchmark, split, folder, findings)
    for problem in problems[:SHOWN]:
        print(f"wrong: {escaped(problem)}")
    if len(problems) > SHOWN:
        print(f"wrong: and {len(problems) - SHOWN:,} more")
    for warning in find_warnings(folder, findings, own=benchmark.name == CUSTOM):
        print(f"odd: {escaped(warning)}")
    return 1 if problems else 0


def track(function: Callable[[Item], Result], items: Sequence[Item], workers: int, title: str) -> Iterator[Result]:
    """``map`` in ``workers`` processes with a progress bar, in order; with one worker, in this process."""
    workers = usable(workers)
    if workers == 1 or len(items) < 2:
        yield from tracked(map(function, items), title, len(items))
        return
    pool = ProcessPoolExecutor(min(workers, len(items)))
    try:
        results = pool.map(function, items, chunksize=8)
        yield from tracked(results, title, len(items))
    finally:  # on Ctrl-C, cancel what has not started
        pool.shutdown(cancel_futures=True)


# --- Conversion -------------------------------------------------------------------------------------------------


def link_images(found: Locations, data: Path, out: Path) -> Locations:
    """Link images and their list into another folder of data sets.

    Args:
        found: the files below ``data``.
        data: folder of all data sets.
        out: the other folder, with the same layout.

    Returns:
        The files below ``out``, where the masks will be written.

    Raises:
        UserError: ``out`` cannot be written to, or holds other files where the links belong.
    """
    make_writable_folder(out, "out")

    def link(path: Path) -> Path:
        target = out / path.relative_to(data)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink() and not target.exists():
                target.symlink_to(path.resolve(), target_is_directory=path.is_dir())
        except OSError as error:
            raise UserError(f"{target}: cannot link to {path} ({error.strerror or error})") from None
        if target.resolve() != path.resolve():
            raise ArgumentError("out", out, f"{target} is not a link to {path}; choose another folder")
        return target

    only = found.only if found.only is None or not found.only.is_file() else link(found.only)
    images = link(found.images) if found.images.is_dir() else found.images
    base, masks = (out / path.relative_to(data) for path in (found.base, found.masks))
    return Locations(base, images, masks, only, found.raw)


def convert(layout: FileLayout, table: np.ndarray, found: Locations, workers: int) -> tuple[list[str], str | None]:
    """Convert the label files whose masks do not exist.

    Args:
        layout: of the benchmark.
        table: of `eval.segmentation.label_maps`.
        found: the benchmark's files; the masks are written to ``found.masks``.
        workers: number of processes.

    Returns:
        A line for each label file that could not be converted, and one about images without a label file, if any.

    Raises:
        UserError: the label files belong to another data set, or the masks cannot be written.
    """
    if found.raw is None or not found.images.is_dir():
        return [], None  # opening the benchmark reports what is missing
    raw = MaskFolder(
        images=str(found.images),
        masks=str(found.raw),
        names="",
        only=None if found.only is None else str(found.only),
        image_ending=layout.image_ending,
        mask_ending=layout.raw_ending,
    )
    lacking = None
    try:
        files = raw.files
    except UserError as error:
        lacking = str(error)
        files = replace(raw, partial=True).files
    pairs = [(path, found.masks / (name + layout.mask_ending)) for name, _, path in files]
    todo = [(path, mask) for path, mask in pairs if not mask.exists()]
    if todo:
        if layout.raw_ending == ".mat":
            _check_context_names(found.raw)
        try:
            make_writable_folder(found.masks, "data")
        except UserError as error:
            raise UserError(f"{one_line(error)}, or write the masks elsewhere with --out") from None
    results = list(track(partial(_convert_one, table=table), todo, workers, "Converting")) if todo else []
    problems = [result for result in results if result is not None]
    kept = f", {len(pairs) - len(todo):,} existed" if len(pairs) > len(todo) else ""
    print(f"{counted(len(todo) - len(problems), 'mask')} written to {escaped(found.masks)}{kept}")
    return problems, lacking


def _check_context_names(raw: Path) -> None:
    """Compare Pascal Context's labels.txt, if it was unpacked with the label files, with the table."""
    for labels in (raw / "labels.txt", raw.parent / "labels.txt"):
        if labels.is_file():
            return label_maps.check_context_names(labels)


def _convert_one(pair: tuple[Path, Path], table: np.ndarray) -> str | None:
    """Convert a label file; return a description of the problem, or None."""
    path, mask = pair
    try:
        raw = label_maps.read_context(path) if path.suffix == ".mat" else read_mask(path)
        values = label_maps.relabel(raw, table, path)
        with atomic_write(mask) as aside:
            Image.fromarray(values).save(aside)
    except UserError as error:
        return str(error)
    return None


# --- Check ------------------------------------------------------------------------------------------------------


def check_all(folder: MaskFolder, workers: int) -> list[Finding]:
    """Read every image and mask of a folder."""
    bare = replace(folder)  # without the cached list of files, which is long and would be sent with every item
    return list(track(partial(check_one, folder=bare, decode=True), folder.files, workers, "Checking"))


def report(benchmark: Benchmark, split: str, folder: MaskFolder, findings: Sequence[Finding]) -> None:
    """Print a summary of a folder."""
    from rich.console import Console

    full = benchmark.full.get(split)
    number = f"{len(findings):,}"
    if full is not None:
        number += f" of {full:,}" + (": a sample" if len(findings) < full else "")
    rows = [("images", number)]
    good = [finding for finding in findings if finding.pixels is not None]
    if good:
        widths, heights = zip(*(finding.size for finding in good), strict=True)
        rows += [("width", f"{min(widths)} to {max(widths)}"), ("height", f"{min(heights)} to {max(heights)}")]
        pixels = np.sum([x for finding in good if (x := finding.pixels) is not None], axis=0)  # [C + 1]
        scored = pixels[:-1].sum()
        rows.append(("not scored", f"{pixels[-1] / max(1, pixels.sum()):.1%} of the pixels"))
        names = [label.name for label in folder.labels]
        rows.append(("classes", f"{np.count_nonzero(pixels[:-1])} of {len(names)} occur"))
        most = [i for i in np.argsort(-pixels[:-1], kind="stable")[:MOST] if pixels[i]]
        rows.append(("most", ", ".join(f"{names[i]} {pixels[i] / scored:.1%}" for i in most)))
        if absent := [name for name, count in zip(names, pixels, strict=False) if not count]:
            rows.append(("absent", ", ".join(absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else "")))
    Console(highlight=False).print(terminal_table(("", ""), rows, title=f"{benchmark.name} {split}: {benchmark.title}"))


if __name__ == "__main__":
    run_verb("eval.segmentation.prepare", main)
