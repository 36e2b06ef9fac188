"""Draw a data set in a benchmark's file layout, to try the commands without the data.

    python -m eval.segmentation.generate voc21 --data /tmp/drawn --count 20
    python -m eval.segmentation.generate coco_stuff --data /tmp/drawn --count 5000 --size 375x500
    python -m eval.segmentation.generate context60 --data /tmp/drawn --raw

Every image is divided into cells of one class each, painted in the class's colour plus noise; the mask holds the
classes. Lines of pixels without a label separate the cells. --raw writes the labels as they are published, for
`eval.segmentation.prepare` to convert. The same seed draws the same images; an interrupted run continues where it
stopped.

ROOT has to be empty, or drawn by this command: existing files are never overwritten.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.common.command import new_parser
from eval.segmentation.drawn_data import draw, record_drawing, style_of, write_lists, write_pair
from eval.segmentation.registry import BENCHMARKS
from pacl.cli.messages import run_verb
from pacl.cli.progress import tracked
from pacl.errors import ArgumentError, UserError
from pacl.printing import counted, escaped


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.segmentation.generate", __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join(BENCHMARKS))
    parser.add_argument("--data", metavar="ROOT", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="number of images (default: %(default)s)")
    parser.add_argument("--split", help="part of the data set (default: the one usually measured, such as val)")
    parser.add_argument("--size", metavar="HxW", help="height and width of the images (default: as in the data set)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)")
    parser.add_argument("--raw", action="store_true", help="write the labels as they are published, before conversion")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the images that do not exist yet."""
    args = build_parser().parse_args(argv)
    if args.benchmark not in BENCHMARKS:
        raise UserError(f"no benchmark {args.benchmark}: choose from {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[args.benchmark]
    layout, split = benchmark.layout, args.split or benchmark.split
    if split not in benchmark.full:
        raise ArgumentError("split", split, f"{benchmark.name} has {', '.join(benchmark.full)}")
    if args.raw and benchmark.label_map is None:
        raise UserError(f"--raw: {benchmark.name} is scored with the published labels, without conversion")
    if args.count < 1:
        raise ArgumentError("count", args.count, "must be at least 1")
    if args.seed < 0:
        raise ArgumentError("seed", args.seed, "must be 0 or more")
    style = style_of(benchmark)
    size = parse_size(args.size) if args.size else style.size
    record_drawing(args.data, layout, split, {"count": args.count, "size": list(size), "seed": args.seed})

    short = {"validation": "val", "training": "train"}.get(split, split)
    # Splits that share a folder of images have different names.
    first = 1 + (100_000 * list(benchmark.full).index(split) if layout.only else 0)
    names = [style.name.format(number=number, short=short) for number in range(first, first + args.count)]
    write_lists(layout, args.data, split, names, raw=args.raw)
    for number, name in tracked(list(enumerate(names)), "Drawing"):
        rng = np.random.default_rng([args.seed, zlib.crc32(split.encode()), number])
        write_pair(benchmark, args.data, split, name, *draw(style, size, rng), raw=args.raw)
    form = ", labels as published" if args.raw else ""
    base = args.data / layout.bases[0]
    done = f"{counted(args.count, 'image')} of {benchmark.title} in {base}{form}; measure them with --data {args.data}"
    print(escaped(done))
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """ "375x500" as height and width.

    Raises:
        ArgumentError: it is not HxW, or too small for cells.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) >= 8 and int(width) >= 8):
        raise ArgumentError("size", text, "must be height and width of 8 or more, such as 375x500")
    return int(height), int(width)


if __name__ == "__main__":
    run_verb("eval.segmentation.generate", main)
