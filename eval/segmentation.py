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
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.arguments import add_model, add_out, load, new_parser
from eval.benchmarks import BENCHMARKS, Benchmark, add_data, chosen
from eval.protocols import PROTOCOLS, Protocol, read_protocol
from pacl.data.masks import MaskFolder
from pacl.errors import UserError, run_verb
from pacl.files import make_folder, written_whole

if TYPE_CHECKING:
    from eval.counts import Counts
    from eval.result import Result
    from eval.segmenting import Bench, Row
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
    from eval.memory import peak_memory
    from eval.segmenting import Bench, Extras, Row, gather, measure

    rows = [
        Row(method, model, protocol, folder.labels, task.benchmark.background)
        for method, model in models.items()
        for protocol, folder in zip(task.protocols, task.folders, strict=True)
    ]
    folder = task.folders[0]
    if rank == 0:
        make_folder(task.out)
        claim(task.out, fingerprint(task, rows, args), args.overwrite)
    wait()
    bench = Bench(
        folder, rows, Extras(args.boundary, args.patches), window_batch=args.window_batch, precision=args.precision
    )
    before = peak_memory(bench.device)
    with bar(f"{task.benchmark.name}", len(folder), ranks, quiet=rank > 0) as progress:
        measure(
            bench, task.out / "parts",
            rank=rank, ranks=ranks, batch=args.batch, workers=args.workers, progress=progress,
        )  # fmt: skip
    wait()
    if rank == 0:
        counts = gather(task.out / "parts", len(folder))
        report(task, bench, counts, args, ranks, before)


def fingerprint(task: Task, rows: Sequence[Row], args: argparse.Namespace) -> dict[str, Any]:
    """All that the counts depend on: a folder holds those of one run."""
    folder = task.folders[0]
    from eval.result import describe_model

    return {
        "pictures": hashlib.sha256("\n".join(f"{n} {m}" for n, _, m in folder.files).encode()).hexdigest(),
        "masks": {"ignore": list(folder.ignore), "offset": folder.offset},
        "rows": [
            {
                "method": row.method,
                "model": {**describe_model(row.model, args.model), "name": None},
                "protocol": row.protocol.described(),
                "classes": [[label.name, *label.prompts] for label in row.labels],
            }
            for row in rows
        ],
        "extras": {"boundary": args.boundary, "patches": args.patches},
        "arithmetic": {"precision": args.precision, "batch": args.batch, "window_batch": args.window_batch},
    }


def claim(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Make the folder this run's: go on with the same run, refuse another.

    Raises:
        UserError: it holds counts of other settings, which are named.
    """
    file = out / "run.json"
    text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        if not overwrite:
            try:
                old = json.loads(file.read_text(encoding="utf-8"))
                differ = ", ".join(key for key in settings if old.get(key) != json.loads(text)[key])
            except (ValueError, AttributeError):
                differ = "its run.json is damaged"
            raise UserError(
                f"{out} holds a run of other settings ({differ}): choose another --out, or --overwrite to start again"
            )
        shutil.rmtree(out / "parts", ignore_errors=True)
    elif overwrite:
        shutil.rmtree(out / "parts", ignore_errors=True)
    with written_whole(file) as aside:
        aside.write_text(text, encoding="utf-8")


# --- Results ----------------------------------------------------------------------------------------------------


def report(task: Task, bench: Bench, counts: Counts, args: argparse.Namespace, ranks: int, before: int) -> None:
    """Write and print everything there is to say about one benchmark."""
    from rich.console import Console

    from eval.result import write_results
    from eval.segmentation_tables import markdown, summary, write_csv

    results = [result(task, bench, counts, r, args, ranks, before) for r in range(len(bench.rows))]
    write_results(task.out, results)
    write_csv(task.out / "classes.csv", results)
    with written_whole(task.out / "results.md") as aside:
        aside.write_text(markdown(results), encoding="utf-8")
    if not args.no_figures:
        draw(task, bench, counts, results)
    console = Console(highlight=False)
    console.print(summary(results))
    console.print(f"results in {task.out}", markup=False, soft_wrap=True)


def result(
    task: Task, bench: Bench, counts: Counts, r: int, args: argparse.Namespace, ranks: int, before: int
) -> Result:
    """The scores of row r, in percent."""
    from eval.areas import accuracy, iou, scores
    from eval.bootstrap import intervals
    from eval.result import Result, describe_model, made_with

    row = bench.rows[r].row
    areas = counts.areas[:, r]  # [I, 3, C]
    total = areas.sum(0)  # [3, C]
    figures = {key: 100 * float(value) for key, value in scores(total).items()}
    if counts.boundary is not None:
        figures["boundary_miou"] = 100 * float(scores(counts.boundary[:, r].sum(0))["miou"])
    if counts.patches is not None and counts.bound is not None:
        right, counted = counts.patches[:, r].sum(0)
        figures["patch_accuracy"] = 100 * float(right) / float(counted) if counted else float("nan")
        figures["upper_bound_miou"] = 100 * float(scores(counts.bound.sum(0))["miou"])
    by_class = 100 * iou(total)
    seconds, peak = float(counts.seconds[0]), int(counts.peak[0])
    return Result(
        task="segmentation",
        dataset=task.benchmark.name,
        split=task.split,
        images=len(areas),
        full=task.benchmark.full.get(task.split),
        method=row.method,
        model=describe_model(row.model, args.model),
        protocol={**row.protocol.described(), "size": bench.settings.size or row.model.config.size,
                  "logit_scale": bench.rows[r].scale, "precision": args.precision},
        scores=figures,
        intervals={key: [100 * bound for bound in bounds] for key, bounds in intervals(areas).items()},
        details={
            "classes": [label.name for label in row.labels],
            "iou": by_class.tolist(),
            "accuracy": (100 * accuracy(total)).tolist(),
            "classes_counted": int((by_class == by_class).sum()),
        },
        speed={
            "images_per_second": len(areas) * ranks / seconds,
            "rows_in_the_run": len(bench.rows),
            "peak_memory_mb": peak / 2**20,
            "peak_memory_beyond_the_model_mb": max(0, peak - before) / 2**20,
        },
        made=made_with(bench.device),
    )  # fmt: skip


def draw(task: Task, bench: Bench, counts: Counts, results: Sequence[Result]) -> None:
    """The pictures: class IoUs, a confusion matrix of each row, the best, median and worst pictures."""
    from eval.areas import scores
    from eval.figures import class_bars, confusion_picture, contact_sheet
    from eval.segmentation_tables import extent, titles_of

    titles = titles_of(results)
    classes = results[0].details["classes"]
    where = f"{task.benchmark.title}, {task.protocols[0].name} protocol, {extent(results[0])}"
    try:
        class_bars(
            task.out / "classes.png",
            classes,
            {t: r.details["iou"] for t, r in zip(titles, results, strict=True)},
            where,
        )
    except UserError as error:  # without the library that draws, the figures are still there
        print(f"eval.segmentation: note: no pictures: {error}", file=sys.stderr)
        return
    for title, matrix in zip(titles, counts.confusion, strict=True):
        confusion_picture(task.out / f"confusion-{title}.png".replace(" ", "-"), classes, matrix, f"{where}, {title}")
    by_picture = scores(counts.areas[:, 0])["miou"]  # [I]
    order = [int(i) for i in by_picture.argsort(kind="stable") if by_picture[i] == by_picture[i]]
    shown: dict[int, str] = {}
    for word, some in (("best", order[::-1][:3]), ("median", middle(order, 3)), ("worst", order[:3])):
        for i in some:
            shown.setdefault(i, f"{word}: {{}}, mIoU {100 * by_picture[i]:.1f}")
    sheet = []
    for i, caption in shown.items():
        item = task.folders[0][i]
        picture = item.picture()
        (found,) = bench.predict([picture])
        labelled = {title: labels for title, (_, labels) in zip(titles, found, strict=True)}
        sheet.append((caption.format(item.name), picture, item.mask, labelled))
    if sheet:
        contact_sheet(task.out / "sheet.jpg", sheet, classes, f"{where}; chosen by {titles[0]}")


def middle(order: Sequence[int], count: int) -> list[int]:
    """The so many in the middle."""
    start = max(0, (len(order) - count) // 2)
    return list(order[start : start + count])


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
