"""Which things does an image show? Whole images are scored with the class names of a segmentation benchmark.

    python -m eval.classification.image_labels voc20 --data ROOT --model photos
    python -m eval.classification.image_labels custom --images DIR --masks DIR --classes FILE --templates none photo

An image shows the classes that its mask has. For each score of `pacl classify` that the model has, and each set of
templates, it prints how often the best name is one of these, and the mean average precision: for each class all images
are ranked by its score, and the precision is averaged over those that show it; then the mean over classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from eval.common.command import add_model, add_overwrite, load, new_parser
from eval.common.folders import check_figures, figures_arguments, save_figures
from eval.common.tables import terminal_table
from eval.segmentation.arguments import add_data, find_benchmark, input_files
from eval.segmentation.label_check import inspect
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.classification.scorer import BATCH, SCORES, Scorer
from pacl.cli.messages import need_output, run_verb
from pacl.cli.progress import tracked
from pacl.data.masks import IGNORED, MaskFolder
from pacl.errors import UserError
from pacl.models.model import PACL
from pacl.printing import counted
from pacl.prompts import get_templates

MODULE = "eval.classification.image_labels"


@dataclass(frozen=True)
class Figures:
    """Results of a score with a set of templates.

    Attributes:
        score: its name.
        templates: their name.
        images: number of images that show a class.
        classes: number of classes that an image shows.
        hit: share of the images whose best name is one that they show.
        precision: mean average precision.
    """

    score: str
    templates: str
    images: int
    classes: int
    hit: float
    precision: float


def measure(
    model: PACL, folder: MaskFolder, classes: Sequence[int], templates: Sequence[str], precision: str = "fp32"
) -> list[Figures]:
    """Score all images that show a class; each is encoded once for all scores and templates.

    Args:
        model: the model.
        folder: images with masks.
        classes: the classes that are scored, as indices of the folder's labels.
        templates: names or files of sentence templates.
        precision: of the image tower.

    Raises:
        UserError: no image shows one of the classes.
    """
    scores = SCORES if model.clip.shared else ("phi",)
    scorers = [Scorer(model, score, templates=name) for name in templates for score in scores]  # type: ignore[arg-type]
    encoder = Scorer(model, scores[-1], precision=precision)  # type: ignore[arg-type]
    labels = [scorer.encode([folder.labels[c] for c in classes]) for scorer in scorers]
    found: list[list[np.ndarray]] = [[] for _ in scorers]
    shown = []
    for start in tracked(range(0, len(folder), BATCH), "photos"):
        items = [folder[i] for i in range(start, min(start + BATCH, len(folder)))]
        present = np.array([np.isin(classes, item.mask[item.mask != IGNORED]) for item in items])
        images = [item.image() for item, own in zip(items, present, strict=True) if own.any()]
        if not images:
            continue
        shown.append(present[present.any(1)])
        embedded = encoder.embed(images, [""] * len(images))
        for parts, scorer, encoded in zip(found, scorers, labels, strict=True):
            parts.append(scorer.compare(embedded, encoded).numpy())
    if not shown:
        raise UserError(f"{folder.masks}: no mask shows one of the {counted(len(classes), 'class', 'classes')}")
    truth = np.concatenate(shown)  # bool [I, C]
    figures = []
    for (name, score), parts in zip(((n, s) for n in templates for s in scores), found, strict=True):
        values = np.concatenate(parts)  # [I, C]
        hit = truth[np.arange(len(truth)), values.argmax(1)].mean()
        precisions = [average_precision(v, t) for v, t in zip(values.T, truth.T, strict=True) if t.any()]
        figures.append(Figures(score, name, len(truth), len(precisions), float(hit), float(np.mean(precisions))))
    return figures


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Mean, over the relevant images, of the share of relevant ones among those ranked as high or higher.

    Args:
        scores: float [I].
        relevant: bool [I], at least one of them True.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, values = relevant[order], scores[order]
    last = np.searchsorted(-values, -values, side="right")  # images with the same score have the same rank
    return float((np.cumsum(ranked)[last - 1] / last)[ranked].mean())


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser(MODULE, __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join([*BENCHMARKS, CUSTOM]))
    add_data(parser)
    parser.add_argument("--templates", nargs="+", default=["none"], metavar="NAME", help="as for pacl classify")
    parser.add_argument("--limit", type=int, metavar="N", help="N images only, evenly spread")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the figures as JSON")
    add_overwrite(parser)
    add_model(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print.

    Raises:
        UserError: data, templates or a model that cannot be had.
    """
    args = build_parser().parse_args(argv)
    if args.out is None:
        need_output()
    for name in args.templates:
        get_templates(name)
    benchmark = find_benchmark(args.benchmark, args)
    folder = benchmark.open(args.data, args.split, names=benchmark.lists()[0], limit=args.limit, partial=args.partial)
    if not len(folder):
        raise UserError(f"{args.benchmark}: no images")
    check_figures(args, MODULE, input_files(args))
    arguments = figures_arguments(args)
    inspect(MODULE, args.benchmark, folder, own=args.benchmark == CUSTOM)
    classes = range(1 if benchmark.background else 0, len(folder.labels))
    found = measure(load(args), folder, classes, args.templates, args.precision)
    header = ("score", "templates", "images", "classes", "best is shown", "mAP")
    table = [
        (f.score, f.templates, str(f.images), str(f.classes), f"{100 * f.hit:.1f}", f"{100 * f.precision:.1f}")
        for f in found
    ]
    Console(highlight=False).print(terminal_table(header, table, range(2, 6)))
    if args.out:
        save_figures(args.out, MODULE, arguments, [vars(each) for each in found], args.overwrite)
    return 0


if __name__ == "__main__":
    run_verb(MODULE, main)
