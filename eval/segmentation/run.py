"""Segmentation benchmarks: mIoU by the rules of the literature, one stated protocol a figure, all methods in one run.

    python -m eval.segmentation voc20 ade150 --data ROOT
    python -m eval.segmentation voc21 --data ROOT --protocol naclip --method clip sclip naclip --names sclip plain
    python -m eval.segmentation voc20 --data ROOT --model runs/mine --protocol pacl
    python -m eval.segmentation custom --images DIR --masks DIR --classes FILE --ignore 255 --offset 0
    torchrun --nproc_per_node 4 -m eval.segmentation coco_stuff --data ROOT

Labels at the pictures' own size, ignored pixels left out, areas summed over the whole set, IoU of every class, their
mean. A run that was killed goes on when the same command is given again: what it did is kept in blocks of 16 pictures.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.command import add_model, load, new_parser
from eval.common.folders import own_folder
from eval.segmentation.benchmark import LISTS, Benchmark
from eval.segmentation.arguments import add_data, find_benchmark
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from eval.segmentation.drawn_data import was_drawn
from eval.segmentation.protocol import PROTOCOLS, Protocol, read_protocol
from pacl.cli.messages import EXIT_USER_ERROR, memory_advice
from pacl.cli.settings import add_settings, given_settings
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.files import make_folder

if TYPE_CHECKING:
    from pacl.models.model import PACL

VERB = "eval.segmentation"
OUT = Path("out/segmentation")
ARITHMETIC = ("precision", "window_batch")
"""Settings of the segmenter that are no part of a protocol."""
TRAINED = "pacl"
"""The method that is the model's own head, where it was trained; all others are CLIP's projection without training."""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("eval.segmentation", __doc__)
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help=", ".join([*BENCHMARKS, "custom"]))
    add_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--protocol", default="sclip", help=f"{', '.join(PROTOCOLS)}, or a YAML file of your own (default: sclip)"
    )
    how.add_argument(
        "--method", nargs="+", metavar="NAME",
        help="variants of the CLIP's last block, untrained (clip, value, maskclip, sclip, clearclip, naclip; "
        "proxyclip for a CLIP with a proxy), and pacl, its trained head; they share the image tower's blocks (default: "
        "pacl, or --dense for an untrained CLIP)",
    )  # fmt: skip
    how.add_argument(
        "--names", nargs="+", metavar="LIST",
        help="lists of class names: plain, sclip, clearclip, proxyclip, everyday, or a file; a row each (default: the "
        "protocol's)",
    )  # fmt: skip
    how.add_argument(
        "--present", action="store_true", default=None,
        help="ask each image only for the classes that its mask shows, as somebody does who sees it",
    )  # fmt: skip
    changes = parser.add_argument_group("settings of the segmenter, in place of the protocol's")
    add_settings(changes, skip=ARITHMETIC, defaults=False)
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
    run.add_argument(
        "--out", metavar="DIR", type=Path,
        help=f"folder of the results, one below it a benchmark (default: one of its own for each run, below {OUT})",
    )  # fmt: skip
    return parser


@dataclass(frozen=True)
class Task:
    """One benchmark of the command, found and readable.

    Attributes:
        benchmark: what it is.
        split: which part.
        folders: its pictures and masks with each list of names.
        protocols: the protocol with each list of names, its own settings of the command included.
        drawn: whether `eval.segmentation.generate` drew the pictures: no result of the benchmark then.
    """

    benchmark: Benchmark
    split: str
    folders: list[MaskFolder]
    protocols: list[Protocol]
    drawn: bool

    @property
    def name(self) -> str:
        """What the results call it."""
        return f"{self.benchmark.name}-drawn" if self.drawn else self.benchmark.name

    @property
    def full(self) -> int | None:
        """Pictures of the whole split, where that is known."""
        folder = self.folders[0]
        own = self.drawn or self.benchmark.name == CUSTOM
        if own:
            return len(folder) if folder.limit is None and not folder.partial else None
        return self.benchmark.full.get(self.split)

    @property
    def title(self) -> str:
        """What the figures call it."""
        return f"drawn pictures as {self.benchmark.title}" if self.drawn else self.benchmark.title


def main(argv: Sequence[str] | None = None) -> int:
    """Find all data, load the model, measure benchmark after benchmark."""
    args = build_parser().parse_args(argv)
    for flag in ("batch", "window_batch", "limit"):
        if (value := getattr(args, flag)) is not None and value < 1:
            raise ArgumentError(flag, value, "must be at least 1")
    if args.workers < 0:
        raise ArgumentError("workers", args.workers, "must be 0 or more")
    tasks = [find(name, args) for name in dict.fromkeys(args.benchmarks)]
    with processes() as ranks:
        if args.device == "auto" and ranks.count > 1:
            args.device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if _cuda() else "cpu"
        with ranks.together():
            models = methods(load(args), args.method)
        for task in tasks:
            measure_task(task, models, args, ranks)
    return 0


# --- What is measured -------------------------------------------------------------------------------------------


def find(name: str, args: argparse.Namespace) -> Task:
    """A benchmark's data and settings; nothing is measured before those of all benchmarks are found.

    Raises:
        UserError: no such benchmark, data that are missing, or settings that make no sense.
    """
    benchmark = find_benchmark(name, args)
    changes = {key: value for key, value in given_settings(args).items() if key not in ARITHMETIC}
    if args.present:
        changes["present"] = True

    def protocol(**more: str) -> Protocol:
        return read_protocol(
            args.protocol, benchmark.name, background=benchmark.background, changes={**changes, **more}
        )

    usual = protocol().names  # a list that this benchmark lacks is no mistake, one that there is not anywhere is
    lists = args.names or [benchmark.lists()[0] if usual in LISTS and usual not in benchmark.lists() else usual]
    protocols = [protocol(names=names) for names in dict.fromkeys(lists)]
    folders = [
        benchmark.open(args.data, args.split, names=p.names, limit=args.limit, partial=args.partial) for p in protocols
    ]
    for folder, own in zip(folders, protocols, strict=True):
        if len(folder.labels) != len(folders[0].labels):
            raise UserError(f"--names {own.names}: {len(folder.labels)} classes, not {len(folders[0].labels)}")
    if not len(folders[0]):
        raise UserError(f"{name}: no pictures")
    drawn = name != CUSTOM and was_drawn(benchmark.layout, folders[0].images, args.split or benchmark.split)
    return Task(benchmark, args.split or benchmark.split, folders, protocols, drawn)


def methods(model: PACL, names: Sequence[str] | None) -> dict[str, PACL]:
    """The methods of the command, on one CLIP.

    Raises:
        UserError: no such method, or one that this model has not.
    """
    from pacl.models.loading import training_free

    able = (*model.clip.dense_variants, *([TRAINED] if model.config.trained else []))
    chosen = list(dict.fromkeys(names or [TRAINED if model.config.trained else model.config.dense]))
    for name in chosen:
        if name == TRAINED and not model.config.trained:
            raise UserError(f"--method {TRAINED}: {model.clip.name} comes without a trained head; train one first")
        if name not in able:
            raise UserError(f"--method {name}: choose from {', '.join(able)}")
    own = {TRAINED: model} if model.config.trained else {model.config.dense: model}
    built = {}
    for name in chosen:
        built[name] = own.get(name) or training_free(model.clip, name).eval().to(model.device)
        built[name].config.size, built[name].config.scales = model.config.size, model.config.scales
    return built


# --- Measuring --------------------------------------------------------------------------------------------------


def measure_task(task: Task, models: dict[str, PACL], args: argparse.Namespace, ranks: Processes) -> None:
    """Measure one benchmark on all processes; the first of them writes the results."""
    from eval.common.folders import PARTS, run_digest, start_run
    from eval.segmentation.fingerprint import fingerprint
    from eval.segmentation.measure import Bench, Extras, Row, gather, measure
    from eval.segmentation.results import report

    rows = [
        Row(method, model, protocol, folder.labels, task.benchmark.background)
        for method, model in models.items()
        for protocol, folder in zip(task.protocols, task.folders, strict=True)
    ]
    folder, extras = task.folders[0], Extras(args.boundary, args.patches)
    arithmetic = {name: getattr(args, name) for name in ARITHMETIC}
    memory = partial(memory_advice, task.name, "a smaller --batch, --window_batch or --size, or --refine 0")
    with ranks.together(), memory():
        if ranks.rank == 0:
            texts = sum(len(label.prompts) for f in task.folders for label in f.labels)
            templates = Path(task.protocols[0].settings.templates).name
            doing = f"{len(folder):,} images, {texts:,} names in templates {templates}"
            print(f"{task.name}: {doing}", file=sys.stderr)
            warn_of_names(models, task)
        bench = Bench(folder, rows, extras, **arithmetic)
        settings = fingerprint(bench, folder, extras=vars(extras), arithmetic={**arithmetic, "batch": args.batch})
        bench.run = run_digest(settings)
        out = args.out / task.name if args.out else own_folder(OUT, task.name, settings)
        if ranks.rank == 0:
            make_folder(out)
            start_run(out, settings, args.overwrite)
            if any((out / PARTS).glob("*.npz")):
                print(f"{task.name}: goes on with what {out} holds of this run", file=sys.stderr)
    with (
        ranks.together(),
        memory(),
        bar(task.name, len(folder), ranks.count, quiet=ranks.rank > 0) as progress,
    ):
        measure(
            bench, out / PARTS,
            rank=ranks.rank, ranks=ranks.count, batch=args.batch, workers=args.workers, progress=progress,
        )  # fmt: skip
    if ranks.rank == 0:
        report(task, out, bench, gather(bench, out / PARTS), args.model, ranks.count, figures=not args.no_figures)


def warn_of_names(models: dict[str, PACL], task: Task) -> None:
    """Say which words a model with a closed vocabulary was never taught, and which names it would cut."""
    from eval.common.command import warn, warn_of_unknown_words

    clip = next(iter(models.values())).clip
    prompts = [prompt for folder in task.folders for label in folder.labels for prompt in label.prompts]
    warn_of_unknown_words(VERB, clip, prompts, f"names of {task.name}")
    if cut := [prompt for prompt in dict.fromkeys(prompts) if clip.count_tokens(prompt) > clip.context_length]:
        warn(VERB, f"{len(cut)} names of {task.name} are longer than {clip.context_length} tokens and are cut")


# --- Processes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Processes:
    """This process among those that ``torchrun`` started.

    Attributes:
        rank: its number.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """A step that all take, and wait for each other at its end. Where one made out a mistake, all stop."""
        mistake = None
        try:
            yield
        except UserError as error:
            mistake = error
        if self.count > 1:
            import torch.distributed as dist

            mistaken = [False] * self.count
            dist.all_gather_object(mistaken, mistake is not None)
            if any(mistaken) and mistake is None:
                raise SystemExit(EXIT_USER_ERROR)  # another one says why
        if mistake is not None:
            raise mistake


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the processes of ``torchrun``, if it started this one."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield Processes()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=datetime.timedelta(days=2))  # to wait with; the counts go through files
    try:
        yield Processes(dist.get_rank(), count)
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
