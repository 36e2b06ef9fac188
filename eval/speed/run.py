"""Time and peak memory of everything that takes long, beside the time that cannot be avoided.

    python -m eval.speed --quick                          every part at tiny sizes, in a minute
    python -m eval.speed                                  every part, on the GPU if there is one
    python -m eval.speed phi segment --device cpu --runs 3
    python -m eval.speed segment train --model open_clip:ViT-B-16-quickgelu/openai --precision fp32 bf16
    python -m eval.speed data --source captions.csv --images photos

phi        phi and its gradient by every implementation, beside the bare matrix products
segment    one image, batches, a folder of files, windows and a very large image, beside the bare image tower; labels in
           fp32 and bf16
train      a training step from images and from kept tokens, beside the bare image tower
data       decoding and cropping, in CPU time of one core
retrieval  ranking 5,000 images and 25,000 captions by phi of all pairs, and of candidates; an index of 100,000 images
growth     time and memory against the size of an image, the numbers of classes, images and texts

The ways of a table run in turns, so other load meets them alike; times of different tables are less
comparable. Results are speed.json, speed.md, speed.png and, for growth, growth.png. docs/speed.md explains them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.common.command import check_least, new_parser
from eval.common.folders import only_writer, own_folder
from pacl.cli.messages import printing, say
from pacl.cli.parser import check_unused
from pacl.errors import ArgumentError
from pacl.files import make_folder
from pacl.models.device import choose_device

if TYPE_CHECKING:
    from eval.speed.measure import Row

PARTS = ("phi", "segment", "train", "data", "retrieval", "growth")
PARTS_OF = {
    "model": ("segment", "train", "growth"),
    "precision": ("segment", "train"),
    "photos": ("segment",),
    "source": ("data",),
}
"""The parts that read a flag."""
MODELS = ("photos", "bundled", "open_clip:ViT-B-16/random")
QUICK_MODELS = ("bundled",)
BASE = Path("out", "speed")


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed", __doc__)
    parser.add_argument(
        "parts", nargs="*", default=[], metavar="PART", help=f"{', '.join(PARTS)} or all (default: all)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the command; its times say nothing")
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs of a line (default: 5; 2 with --quick)")
    parser.add_argument(
        "--model", nargs="+", metavar="NAME",
        help=f"models of segment and train; growth takes the first (default: {' '.join(MODELS)}; with --quick "
        f"{' '.join(QUICK_MODELS)})",
    )  # fmt: skip
    parser.add_argument(
        "--precision", nargs="+", choices=["fp32", "bf16"],
        help="of the image tower (default: fp32, and bf16 where the hardware has it)",
    )  # fmt: skip
    parser.add_argument(
        "--photos", nargs="+", default=[], metavar="IMAGE_OR_FOLDER",
        help="photos that fp32 and bf16 label, for the share of equal labels (default: the demo photo)",
    )  # fmt: skip
    parser.add_argument(
        "--source", metavar="SOURCE",
        help="data: table, COCO JSON, folder by class or shards to decode (default: the demo photo)",
    )  # fmt: skip
    parser.add_argument("--images", metavar="DIR", help="data: folder of a table's images")
    parser.add_argument(
        "--cpu_time", action="store_true",
        help="CPU time instead of wall time, for a CPU that other programs use, too; only with --device cpu",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder of the results (default: one of its own for these settings, {BASE}/PARTS-DEVICE)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that --out holds")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts, and print and write each case as soon as it is measured."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check_least(args, runs=1)
    if wrong := [part for part in args.parts if part not in (*PARTS, "all")]:
        raise ArgumentError("parts", wrong[0], f"choose from {', '.join(PARTS)} or all")
    if args.images and not args.source:
        raise ArgumentError("images", args.images, "has no effect without --source")
    everything = not args.parts or "all" in args.parts
    parts = [part for part in PARTS if everything or part in args.parts]
    for name, readers in PARTS_OF.items():
        if not set(readers).intersection(parts):
            check_unused(args, parser, [name], f"without the part {' or '.join(readers)}")
    device = choose_device(args.device)
    if args.cpu_time and device.type != "cpu":
        raise ArgumentError("cpu_time", device, "measures no work of this device; use it with --device cpu")
    from eval.common.result import made_with
    from eval.speed.measure import Options, describe
    from eval.speed.report import write_charts, write_tables
    from eval.speed.segment import photos_of
    from pacl.models.precision import has_bf16

    runs = args.runs or (2 if args.quick else 5)
    options = Options(
        device,
        runs,
        args.quick,
        args.model or (QUICK_MODELS if args.quick else MODELS),
        args.precision or (("fp32", "bf16") if has_bf16(device.type) else ("fp32",)),
        photos_of(args.photos),
        args.source,
        args.images,
        args.cpu_time,
    )
    settings = {"parts": parts, **vars(options), "device": str(device), "photos": list(map(str, options.photos))}
    folder = folder_of(args, settings)
    made = {**made_with(device), "device": describe(device), "runs": runs, "quick": args.quick}
    made["clock"] = "CPU time" if args.cpu_time else "wall time"
    rows: list[Row] = []
    with only_writer(folder):
        for part in parts:
            say("eval.speed", f"measuring {part}")
            for _, case in groupby(import_module(f"eval.speed.{part}").rows(options), lambda row: row.case):
                own = list(case)
                show(own)
                rows += own
                write_tables(folder, rows, made)  # what was measured is kept if the next case fails
        files = [*write_tables(folder, rows, made), *write_charts(folder, rows, made)]
    with printing():
        print("\n".join(map(str, files)))
    return 0


def folder_of(args: argparse.Namespace, settings: dict[str, Any]) -> Path:
    """The folder of the results: that of the user, or the one of the command with these settings.

    Args:
        args: the arguments.
        settings: all that the times depend on, with ``parts`` and ``device``.

    Raises:
        ArgumentError: ``out`` holds results already, and they are not to be replaced.
    """
    from eval.speed.report import JSON

    if args.out is None:
        parts = settings["parts"]
        words = [
            "all" if len(parts) == len(PARTS) else "-".join(parts),
            settings["device"].replace(":", ""),
            *["quick"] * args.quick,
        ]
        return own_folder(BASE, words, settings)
    if (args.out / JSON).is_file() and not args.overwrite:
        raise ArgumentError("out", args.out, "holds results; choose another folder, or give --overwrite")
    return make_folder(args.out)


def show(rows: Sequence[Row]) -> None:
    """Print the table of a case."""
    from rich.console import Console

    from eval.common.tables import terminal_table
    from eval.speed.report import HEADER, RIGHT, cells

    lines = [cells(row, named=False) for row in rows]
    with printing():
        Console().print(terminal_table(HEADER, lines, RIGHT, title=f"{rows[0].part}: {rows[0].case}"))
