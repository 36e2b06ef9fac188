"""Zero-shot classification, and linear probes on the same frozen features.

Three ways to score a picture against the names of the classes, side by side from one pass of the image tower: CLIP's
pooled embedding ("pooled"), PACL's compatibility of all patches with each name ("phi"), and the mean of the two
cosines ("mean"). Pictures are cut as CLIP's own preprocessing does it, to the CLIP's native size. A class is the mean
of its name's embeddings in all templates; of several names the best counts. Every result has top-1, top-5 and the
mean per class, and says which of them the literature gives for that data set.

    python -m eval.classification imagenet --data imagenet --model bundled
    python -m eval.classification food101 oxford_pets cifar10 --data data --templates paper
    python -m eval.classification custom --data photos --names names.txt
    python -m eval.classification cifar10 --data data --probe --shots 1 2 4 8 16 all --seeds 0 1 2

data sets: imagenet, imagenet_v2, imagenet_a, imagenet_r, imagenet_sketch, food101, stanford_cars, oxford_pets, sun397,
eurosat, caltech101, cifar10, cifar100, and custom: a folder for each class, in test/ and train/ if there are such
parts. A file of names has a line for each class: "words=folder", or words alone in the order of the folders.

Without --out each command has folders of its own, out/classification/DATASET-DIGEST, and the same command again
replaces its results. Features for probes are kept for all of them in out/classification/features (with --out: in
DIR/features).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.command import add_folder, add_model, check_least, check_text, load, new_parser
from eval.common.folders import results_folder
from eval.common.result import Result, write_results
from pacl.errors import UserError
from pacl.files import make_folder, written_whole
from pacl.prompts import get_templates

if TYPE_CHECKING:
    from eval.classification.image_sets import ImageSet
    from eval.classification.linear_probe import Draws

OUT = Path("out/classification")
SHOTS = ("1", "2", "4", "8", "16", "all")


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("eval.classification", __doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="one or more data sets, or custom")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="ROOT", type=Path, required=True, help="where the official folders lie")
    data.add_argument(
        "--split",
        help="part for zero-shot (default: the literature's; EuroSAT and Caltech-101 have no official split: all their "
        "pictures, where CLIP's paper measured 5,000 and 6,085, the latter in 102 classes instead of 101)",
    )
    data.add_argument("--names", metavar="FILE", help="the classes in words (default: CLIP's own names)")
    data.add_argument("--templates", default="imagenet", help="imagenet (80), paper (7), photo, none or a file")
    data.add_argument("--limit", metavar="N", type=int, help="measure so many pictures only, at equal distances")
    data.add_argument("--batch", type=int, default=64, help="pictures at a time (default: 64)")
    data.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: 2)")
    data.add_argument("--download", action="store_true", help="let torchvision download what is missing")
    probe = parser.add_argument_group("linear probe")
    probe.add_argument("--probe", action="store_true", help="also fit linear classifiers on the training pictures")
    probe.add_argument(
        "--shots",
        nargs="+",
        choices=SHOTS,
        default=list(SHOTS),
        help="training pictures a class (default: each of them)",
    )
    probe.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the draws (default: 0 1 2)")
    probe.add_argument(
        "--features", nargs="+", choices=("pooled", "patches"), default=["pooled"],
        help="pooled: CLIP's image feature before its projection; patches: mean of PACL's (default: pooled)",
    )  # fmt: skip
    probe.add_argument("--train_limit", metavar="N", type=int, help="draw from so many training pictures only")
    add_model(parser)
    add_folder(parser, OUT)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked in an instant, load the model, measure data set by data set."""
    args = build_parser().parse_args(argv)
    check_numbers(args)
    check_text(args, "out", "names", "templates", "model", "split")
    if args.templates != "imagenet":  # those need open_clip, which takes seconds
        get_templates(args.templates)
    make_folder(args.out or OUT)
    tasks = [find(name, args) for name in dict.fromkeys(args.datasets)]

    from rich.console import Console

    from eval.classification.probing import planned_probes, probe_results
    from eval.classification.tables import markdown, summary
    from eval.classification.zero_shot import planned_zero_shot, warn_of_names, zero_shot_results

    templates = get_templates(args.templates)
    model = load(args)
    plans = []
    for task in tasks:  # all folders before the first is measured
        zero_shot = planned_zero_shot(model, task.images, templates, args)
        probes = planned_probes(model, *task.probe, args) if task.probe else []
        folder = results_folder(args.out, OUT, [*zero_shot, *probes], args.overwrite)
        plans.append((task, zero_shot, probes, folder))
    results: list[Result] = []
    for task, zero_shot, probes, folder in plans:
        warn_of_names(model, task.images, templates)
        found = zero_shot_results(model, task.images, templates, zero_shot, args)
        if task.probe is not None:
            found += probe_results(model, *task.probe, probes, (args.out or OUT) / "features", args)
        write_results(folder, found)
        with written_whole(folder / "results.md") as aside:
            aside.write_text(markdown(found), encoding="utf-8")
        results += found
    console = Console(highlight=False)
    console.print(summary(results))
    for *_, folder in plans:
        console.print(f"results in {folder}", markup=False, soft_wrap=True)
    return 0


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense."""
    for flag, least in (("batch", 1), ("workers", 0), ("limit", 1), ("train_limit", 1)):
        if (value := getattr(args, flag)) is not None and value < least:
            raise UserError(f"--{flag} {value}: at least {least}")
    if min(args.seeds) < 0:
        raise UserError(f"--seeds {min(args.seeds)}: at least 0")


@dataclass(frozen=True)
class Task:
    """One data set of the command.

    Attributes:
        images: to measure zero-shot.
        probe: training pictures, test pictures and the examples drawn; None where no probe is asked for.
    """

    images: ImageSet
    probe: tuple[ImageSet, ImageSet, Draws] | None


def find(name: str, args: argparse.Namespace) -> Task:
    """A data set's pictures and, for probes, the examples drawn from them.

    Raises:
        UserError: Something is missing, or is too little to train on.
    """
    from eval.classification.image_sets import open_image_set

    def opened(split: str | None, limit: int | None) -> ImageSet:
        images = open_image_set(name, args.data, split, args.names, limit=limit, download=args.download)
        if not len(images):
            raise UserError(f"{name}: {args.data} holds no picture of split {images.split}")
        return images

    images = opened(args.split, args.limit)
    if not args.probe:
        return Task(images, None)

    from eval.classification.linear_probe import check_installed, draw

    check_installed()
    if (splits := images.benchmark.probe) is None:
        raise UserError(f"--probe: {name} has no training pictures")
    train, test = opened(splits[0], args.train_limit), opened(splits[1], args.limit)
    try:
        return Task(images, (train, test, draw(train.labels, train.keys, args.shots, args.seeds)))
    except UserError as error:
        raise UserError(f"{error} (--train_limit {args.train_limit})" if args.train_limit else str(error)) from None
