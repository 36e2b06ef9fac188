"""Segmentation benchmarks: mIoU under a stated protocol, with several methods in one run.

    python -m eval.segmentation voc20 ade150 --data ROOT
    python -m eval.segmentation voc21 --data ROOT --protocol naclip --method clip sclip naclip --names sclip plain
    python -m eval.segmentation voc20 --data ROOT --model runs/mine --protocol pacl
    python -m eval.segmentation custom --images DIR --masks DIR --classes FILE --ignore 255 --offset 0
    torchrun --nproc_per_node 4 -m eval.segmentation coco_stuff --data ROOT

Images are labelled at their own size. Areas are summed over all images, without ignored pixels; mIoU is the mean of the
classes' IoU. A run that was killed resumes when the same command is given again: counts are kept for every 16 images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.common.command import add_model, check_least, load, new_parser
from eval.common.folders import own_folder
from eval.common.processes import processes, together
from eval.segmentation.arguments import add_data
from eval.segmentation.label_check import inspect
from eval.segmentation.protocol import OWN_PROTOCOLS, PROTOCOLS
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from eval.segmentation.selection import ARITHMETIC, Selection, select
from pacl.cli.messages import memory_advice, say
from pacl.cli.progress import ProgressMeter, tracked
from pacl.cli.settings import add_settings, given_settings
from pacl.errors import ArgumentError, UserError
from pacl.files import check_folder, make_folder
from pacl.printing import counted
from pacl.processes import Process
from pacl.segmentation.background import parse_background
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from pacl.models.model import PACL

PROG = "eval.segmentation"
OUT = Path("out/segmentation")
TEXTS = 640  # texts between two steps of a progress bar
TRAINED = "pacl"
"""The method that is the model's own head, where it was trained; all others are CLIP's projection without training."""


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("eval.segmentation", __doc__)
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help=", ".join([*BENCHMARKS, "custom"]))
    add_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="N images only, evenly spread over the split")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--protocol", default="sclip",
        help=f"{', '.join([*PROTOCOLS, *OWN_PROTOCOLS])}, or a YAML file of your own (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--method", nargs="+", metavar="NAME",
        help="dense variants of the untrained CLIP (the names that --dense takes), and pacl, its trained head; the "
        "image tower runs once for all (default: pacl, or --dense for an untrained CLIP)",
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
    run.add_argument("--batch", type=int, default=4, metavar="N", help="images at a time (default: %(default)s)")
    run.add_argument(
        "--window_batch",
        type=int,
        default=SegmenterSettings.window_batch,
        metavar="N",
        help="windows through the tower at a time (default: %(default)s)",
    )
    run.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that read images (default: %(default)s)"
    )
    run.add_argument(
        "--overwrite", action="store_true", help="start again, and delete what another run has left in --out"
    )
    run.add_argument("--no_figures", action="store_true", help="draw no figures")
    run.add_argument(
        "--out", metavar="DIR", type=Path,
        help=f"folder of the results, one below it a benchmark (default: one of its own for each run, below {OUT})",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Find all data, load the model, measure benchmark after benchmark."""
    args = build_parser().parse_args(argv)
    check_least(args, batch=1, window_batch=1, limit=1, workers=0)
    if args.dense and args.method and TRAINED not in args.method:
        raise ArgumentError("dense", args.dense, "has no effect with --method; name it there")
    selections = [select(name, args) for name in dict.fromkeys(args.benchmarks)]
    rule = given_settings(args).get("background")
    if rule is not None:
        parse_background(rule)
        if not any(selection.benchmark.background for selection in selections):
            raise ArgumentError("background", rule, f"no background class in {', '.join(args.benchmarks)}")
    if args.out:
        for selection in selections:
            check_folder(args.out / selection.name)  # now: embedding the names takes minutes
    with processes() as process:
        args.device = process.device(args.device)
        with together(process):
            if process.rank == 0:
                if any(selection.benchmark.name != CUSTOM for selection in selections):
                    note_own_protocol(args.model, selections[0].protocols[0].name)
                for selection in selections:
                    own = selection.benchmark.name == CUSTOM
                    inspect(PROG, selection.name, selection.folders[0], own=own, workers=args.workers)
            models = methods(load(args), args.method)
        for selection in selections:
            measure_benchmark(selection, models, args, process)
    return 0


def note_own_protocol(model: str, protocol: str) -> None:
    """Say that a model has a protocol of its own, where another one is used: their figures differ."""
    if model in OWN_PROTOCOLS and protocol != model:
        say(PROG, f"note: the figures of docs/results.md use --protocol {model}, this run {protocol}")


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


def measure_benchmark(
    selection: Selection, models: dict[str, PACL], args: argparse.Namespace, process: Process
) -> None:
    """Measure one benchmark on all processes; the first one writes the results."""
    from eval.common.command import warn
    from eval.common.folders import PARTS, check_unchanged, end_run, run_digest, start_run
    from eval.segmentation.fingerprint import fingerprint, pictures
    from eval.segmentation.measure import Bench, Extras, Row, gather, is_measured, measure
    from eval.segmentation.results import FILES, report

    rows = [
        Row(method, model, protocol, folder.labels, selection.benchmark.background)
        for method, model in models.items()
        for protocol, folder in zip(selection.protocols, selection.folders, strict=True)
    ]
    folder, extras = selection.folders[0], Extras(args.boundary, args.patches)
    arithmetic = {name: getattr(args, name) for name in ARITHMETIC}
    memory = partial(memory_advice, selection.name, "a smaller --batch, --window_batch or --size, or --refine 0")
    with together(process), memory():
        if process.rank == 0:
            texts = sum(len(label.prompts) for f in selection.folders for label in f.labels)
            synonyms = " (with synonyms)" if texts > sum(len(f.labels) for f in selection.folders) else ""
            templates = Path(selection.protocols[0].settings.templates).name
            size, full = len(folder), selection.full
            images = counted(size, "image") if full in (None, size) else f"{size:,} of {full:,} images"
            doing = f"{images}, {counted(texts, 'name')}{synonyms} in templates {templates}"
            print(f"{selection.name}: {doing}", file=sys.stderr)
            warn_of_names(models, selection)
            if full is not None and size < min(args.limit or full, full) and not args.partial:
                few = f"its list or folder has {size:,} of the {full:,} images of {selection.split}"
                warn(PROG, f"{selection.name}: {few}: the figures are not those of the published benchmark")
        embed_names(models, selection)
        bench = Bench(folder, rows, extras, **arithmetic)
        settings = fingerprint(bench, folder, extras=vars(extras), arithmetic={**arithmetic, "batch": args.batch})
        bench.run = run_digest(settings)
        if process.rank == 0:
            out = folder_of(selection, args, settings)
            make_folder(out)
            start_run(out, settings, args.overwrite, FILES, "segmentation")
            measured = is_measured(bench, out / PARTS)
            drawn = measured and all(any(out.glob(pattern)) for pattern in FILES)
            if not measured and any((out / PARTS).glob("*.npz")):
                print(f"{selection.name}: resumes from the counts of this run in {out}", file=sys.stderr)
    out = folder_of(selection, args, settings)  # the first process has created it
    with (
        together(process),
        memory(),
        ProgressMeter(selection.name, len(folder), line=partial(say, PROG)) as meter,
    ):

        def show_progress(done: int) -> None:
            if process.rank == 0:
                meter.update(min(len(folder), done * process.count))

        measure(
            bench, out / PARTS,
            rank=process.rank, ranks=process.count, batch=args.batch, workers=args.workers,
            progress=show_progress,
        )  # fmt: skip
    if process.rank == 0:
        counts = gather(bench, out / PARTS)
        with end_run(out, settings):
            check_unchanged(settings["pictures"], pictures(folder), selection.name)
            report(selection, out, bench, counts, args.model, process.count, figures=not args.no_figures and not drawn)


def folder_of(selection: Selection, args: argparse.Namespace, settings: dict[str, Any]) -> Path:
    """The folder of a benchmark's results, see `eval.common.folders`."""
    if args.out:
        return Path(args.out / selection.name)
    few = [f"{len(selection.folders[0])}-images"] if args.limit else []
    return own_folder(OUT, [selection.name, Path(selection.protocols[0].name).stem, args.model, *few], settings)


def embed_names(models: dict[str, PACL], selection: Selection) -> None:
    """Embed the names in all templates, with a progress bar: there may be 80,000 texts. Embeddings are kept."""
    from pacl.prompts import fill, get_templates

    clip = next(iter(models.values())).clip
    for protocol, folder in zip(selection.protocols, selection.folders, strict=True):
        templates = get_templates(protocol.settings.templates)
        prompts = list(dict.fromkeys(prompt for label in folder.labels for prompt in label.prompts))
        step = max(1, TEXTS // len(templates))
        for start in tracked(range(0, len(prompts), step), f"names of {selection.name}"):
            clip.encode_text([fill(template, p) for p in prompts[start : start + step] for template in templates])


def warn_of_names(models: dict[str, PACL], selection: Selection) -> None:
    """Warn of words that a closed vocabulary lacks, and of names that are truncated."""
    from eval.common.command import warn, warn_of_unknown_words

    clip = next(iter(models.values())).clip
    prompts = [prompt for folder in selection.folders for label in folder.labels for prompt in label.prompts]
    warn_of_unknown_words(PROG, clip, prompts, f"names of {selection.name}")
    if cut := [prompt for prompt in dict.fromkeys(prompts) if clip.count_tokens(prompt) > clip.context_length]:
        warn(PROG, f"{counted(len(cut), 'name')} of {selection.name} cut: longer than {clip.context_length} tokens")
