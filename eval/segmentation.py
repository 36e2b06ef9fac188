"""Segmentation benchmarks: mIoU by the rules of the literature, one stated protocol a figure, all methods in one run.

    python -m eval.segmentation voc20 ade150 --data ROOT
    python -m eval.segmentation voc21 --data ROOT --protocol naclip --method clip sclip naclip --names sclip plain
    python -m eval.segmentation voc20 --data ROOT --model runs/mine --protocol pacl
    python -m eval.segmentation custom --images DIR --masks DIR --classes FILE --ignore 255 --offset 0
    torchrun --nproc_per_node 4 -m eval.segmentation coco_stuff --data ROOT

Labels at the pictures' own size, ignored pixels left out, areas summed over the whole set, IoU of every class, their
mean. A run that was killed goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval.arguments import add_model, add_out, load, new_parser
from eval.benchmarks import BENCHMARKS, Benchmark, add_data, chosen
from eval.protocols import PROTOCOLS, Protocol, read_protocol
from pacl.data.masks import MaskFolder
from pacl.errors import UserError, run_verb
from pacl.files import make_folder

if TYPE_CHECKING:
    from pacl.model import PACL

TRAINED = "pacl"
"""The method that is the model's own head, where it was trained; all others are CLIP's projection without training."""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("segmentation", __doc__)
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help=", ".join([*BENCHMARKS, "custom"]))
    add_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--protocol", default="sclip", help=f"{', '.join(PROTOCOLS)}, or a YAML file of your own (default: sclip)"
    )
    how.add_argument(
        "--method", nargs="+", metavar="NAME",
        help="variants of the CLIP's last block, untrained (clip, value, maskclip, sclip, clearclip, naclip), and "
        "pacl, its trained head; they share the image tower's blocks (default: pacl, or --dense for an untrained CLIP)",
    )  # fmt: skip
    how.add_argument(
        "--names", nargs="+", metavar="LIST",
        help="lists of class names: plain, sclip, clearclip, proxyclip, everyday, or a file; a row each (default: the "
        "protocol's)",
    )  # fmt: skip
    how.add_argument("--size", type=int, metavar="N", help="short side of the pictures in pixels")
    how.add_argument("--window", metavar="CROP[/STEP]", help='sliding windows in pixels, or "whole"')
    how.add_argument("--stride", type=int, metavar="N", help="pixels from one patch to the next")
    how.add_argument("--logit_scale", type=float, metavar="X", help="factor on the cosines in the softmax over names")
    how.add_argument("--templates", metavar="NAME", help="none, photo, paper, imagenet, or a file")
    how.add_argument("--background_rule", metavar="RULE", help="of class 0: none, threshold:P or entropy:NATS")
    how.add_argument("--refine", type=int, metavar="N", help="iterations of refinement; 0: off")
    more = parser.add_argument_group("what else is measured")
    more.add_argument("--boundary", action="store_true", help="boundary IoU (Cheng et al., CVPR 2021)")
    more.add_argument(
        "--patches",
        action="store_true",
        help="patch-classification accuracy, and the most that one label a patch allows",
    )
    add_model(parser)
    run = parser.add_argument_group("run")
    run.add_argument("--batch", type=int, default=4, metavar="N", help="pictures at a time (default: 4)")
    run.add_argument("--window_batch", type=int, default=8, metavar="N", help="windows through the tower at a time (8)")
    run.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read pictures (default: 2)")
    run.add_argument("--overwrite", action="store_true", help="start again where --out holds another run")
    run.add_argument("--no_figures", action="store_true", help="no pictures")
    add_out(run, "out/segmentation")
    return parser


@dataclass(frozen=True)
class Task:
    """One benchmark of the command, found and readable.

    Attributes:
        benchmark: what it is.
        split: which part.
        folders: its pictures and masks with each list of names.
        protocols: the protocol with each list of names, its own settings of the command included.
        out: folder for the results.
    """

    benchmark: Benchmark
    split: str
    folders: list[MaskFolder]
    protocols: list[Protocol]
    out: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Find all data, load the model, measure benchmark after benchmark."""
    args = build_parser().parse_args(argv)
    for flag in ("batch", "window_batch"):
        if getattr(args, flag) < 1:
            raise UserError(f"--{flag} {getattr(args, flag)}: must be at least 1")
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: must be 0 or more")
    tasks = [find(name, args) for name in dict.fromkeys(args.benchmarks)]
    with processes() as (rank, ranks, wait):
        if args.device == "auto" and ranks > 1:
            args.device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if _cuda() else "cpu"
        model = load(args)
        models = methods(model, args.method)
        for task in tasks:
            measure_task(task, models, args, rank, ranks, wait)
    return 0


# --- What is measured -------------------------------------------------------------------------------------------


def find(name: str, args: argparse.Namespace) -> Task:
    """A benchmark's data and settings; nothing is measured before those of all benchmarks are found.

    Raises:
        UserError: no such benchmark, data that are missing, or settings that make no sense.
    """
    benchmark = chosen(name, args)
    changes = {key: value for key in CHANGES if (value := getattr(args, key)) is not None}
    if args.background_rule is not None:
        changes["background"] = args.background_rule
    if args.window is not None:
        changes |= parse_window(args.window)

    def protocol(**more: str) -> Protocol:
        return read_protocol(
            args.protocol, benchmark.name, background=benchmark.background, changes={**changes, **more}
        )

    usual = protocol().names
    lists = args.names or [usual if usual in benchmark.lists() else benchmark.lists()[0]]
    protocols = [protocol(names=names) for names in dict.fromkeys(lists)]
    folders = [
        benchmark.open(args.data, args.split, names=p.names, limit=args.limit, partial=args.partial) for p in protocols
    ]
    for folder, own in zip(folders, protocols, strict=True):
        if len(folder.labels) != len(folders[0].labels):
            raise UserError(f"--names {own.names}: {len(folder.labels)} classes, not {len(folders[0].labels)}")
    if not len(folders[0]):
        raise UserError(f"{name}: no pictures")
    return Task(benchmark, args.split or benchmark.split, folders, protocols, Path(args.out, name))


CHANGES = ("size", "stride", "logit_scale", "templates", "refine")


def parse_window(text: str) -> dict[str, int | None]:
    """``224/112``, ``224`` or ``whole`` -> settings.

    Raises:
        UserError: it is none of these.
    """
    if text == "whole":
        return {"window": None, "window_step": None}
    crop, slash, step = text.partition("/")
    if not crop.isdecimal() or (slash and not step.isdecimal()):
        raise UserError(f'--window {text}: is CROP or CROP/STEP in pixels, such as 224/112, or "whole"')
    return {"window": int(crop), "window_step": int(step) if slash else None}


def methods(model: PACL, names: Sequence[str] | None) -> dict[str, PACL]:
    """The methods of the command, on one CLIP.

    Raises:
        UserError: no such method, or one that this model has not.
    """
    from pacl.model import PACL

    able = (*model.clip.dense_variants, *([TRAINED] if model.config.trained else []))
    chosen = list(dict.fromkeys(names or [TRAINED if model.config.trained else model.config.dense]))
    for name in chosen:
        if name == TRAINED and not model.config.trained:
            raise UserError(f"--method {TRAINED}: {model.clip.name} comes without a trained head; train one first")
        if name not in able:
            raise UserError(f"--method {name}: choose from {', '.join(able)}")
        if name != TRAINED and model.clip.projection is None:
            raise UserError(f"--method {name}: the image tower of {model.clip.name} has no linear projection")
    own = {TRAINED: model} if model.config.trained else {model.config.dense: model}
    built = {}
    for name in chosen:
        built[name] = own.get(name) or PACL.untrained(model.clip, dense=name).eval().to(model.device)
        built[name].config.size = model.config.size
    return built


# --- Measuring --------------------------------------------------------------------------------------------------


def measure_task(
    task: Task,
    models: dict[str, PACL],
    args: argparse.Namespace,
    rank: int,
    ranks: int,
    wait: Callable[[], object],
) -> None:
    """Measure one benchmark on all processes; the first of them writes the results."""
    from eval.claim import PARTS, claim, fingerprint
    from eval.segmentation_results import report
    from eval.segmenting import Bench, Extras, Row, gather, measure

    rows = [
        Row(method, model, protocol, folder.labels, task.benchmark.background)
        for method, model in models.items()
        for protocol, folder in zip(task.protocols, task.folders, strict=True)
    ]
    folder, extras = task.folders[0], Extras(args.boundary, args.patches)
    arithmetic = {"precision": args.precision, "window_batch": args.window_batch}
    bench = Bench(folder, rows, extras, **arithmetic)
    if rank == 0:
        make_folder(task.out)
        settings = fingerprint(bench, folder, extras=vars(extras), arithmetic={**arithmetic, "batch": args.batch})
        claim(task.out, settings, args.overwrite)
    wait()
    with bar(task.benchmark.name, len(folder), ranks, quiet=rank > 0) as progress:
        measure(
            bench, task.out / PARTS,
            rank=rank, ranks=ranks, batch=args.batch, workers=args.workers, progress=progress,
        )  # fmt: skip
    wait()
    if rank == 0:
        report(task, bench, gather(task.out / PARTS, len(folder)), args.model, ranks, figures=not args.no_figures)


# --- Processes --------------------------------------------------------------------------------------------------


@contextmanager
def processes() -> Iterator[tuple[int, int, Callable[[], object]]]:
    """This process among those that ``torchrun`` started: its rank, their number, and how to wait for all."""
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    if ranks == 1:
        yield 0, 1, lambda: None
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=datetime.timedelta(days=2))  # to wait with; the counts go through files
    try:
        yield dist.get_rank(), ranks, dist.barrier
    finally:
        dist.destroy_process_group()


@contextmanager
def bar(name: str, total: int, ranks: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, told how many of this process's pictures are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=min(total, done * ranks))


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    run_verb("eval.segmentation", main)
