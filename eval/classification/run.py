"""Zero-shot classification, and linear probes on the same frozen features.

Zero-shot classification compares each image with the class names by three scores: the cosine of CLIP's pooled embedding
("pooled"), PACL's compatibility of the patches ("phi"), and the mean of both ("mean"). Images are preprocessed like the
CLIP's training images, at its native size. The embedding of a class name is the mean over all templates; if a class has
several names, the one with the highest score is used. The model is a CLIP or a head on one. Every result has top-1,
top-5 and mean per-class accuracy, and states which of them is the main one: what the literature reports.

    python -m eval.classification imagenet --data imagenet --model bundled
    python -m eval.classification food101 oxford_pets cifar10 --data data --templates paper
    python -m eval.classification custom --data photos --names names.txt
    python -m eval.classification cifar10 --data data --probe --shots 1 2 4 8 16 all --seeds 0 1 2

What of the folders is left out is said, as are test images of custom that are also training images.

data sets: imagenet, imagenet_v2, imagenet_a, imagenet_r, imagenet_sketch, food101, stanford_cars, oxford_pets, sun397,
eurosat, caltech101, cifar10, cifar100 and custom, which is one folder per class, either directly in ROOT or in
ROOT/test and ROOT/train. The file for --names has one line per class: "words=folder", or only words, in the order of
the folders.

Without --out each command has folders of its own, out/classification/DATASET-MODEL, and the same command again
replaces its results. Features for probes are cached for all of them in out/classification/features (with --out: in
DIR/features).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.command import (
    add_folder,
    add_model,
    check_least,
    check_seeds,
    check_text,
    load_pooled,
    new_parser,
    warn,
    warn_of_unknown_words,
)
from eval.common.folders import check_unchanged, results_folder
from eval.common.result import Result, write_results
from pacl.cli.messages import one_line, say
from pacl.cli.parser import check_unused
from pacl.errors import UserError
from pacl.files import atomic_write, check_folder
from pacl.printing import counted, escaped
from pacl.prompts import fill, get_templates

if TYPE_CHECKING:
    from eval.classification.image_sets import ImageSet
    from pacl.classification.logistic import Splits
    from pacl.models.model import PACL

MODULE = "eval.classification"
OUT = Path("out/classification")
SHOTS = ("1", "2", "4", "8", "16", "all")
MANY_TEXTS = 1000  # from this number of texts on, a message says that they are being encoded


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser(MODULE, __doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="one or more of the data sets above")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="ROOT", type=Path, required=True, help="folder that contains the data sets")
    data.add_argument(
        "--split",
        help="split for zero-shot classification (default: the one used in the literature; EuroSAT and Caltech-101 "
        "have no official splits, so all images are used; the CLIP paper used 5,000 and 6,085 of them, the latter in "
        "102 classes instead of 101)",
    )
    data.add_argument(
        "--names", metavar="FILE",
        help="file with other class names, a line words=class each, or words in the order of the classes (default: the "
        "names of the CLIP paper; custom: of the folders)",
    )  # fmt: skip
    data.add_argument(
        "--templates", default="imagenet", help="imagenet (80), paper (7), photo, none or a file (default: %(default)s)"
    )
    data.add_argument("--limit", metavar="N", type=int, help="use only N images, evenly spaced over the classes")
    data.add_argument("--batch", type=int, default=64, help="images per batch (default: %(default)s)")
    data.add_argument("--workers", type=int, default=2, help="processes that read images (default: %(default)s)")
    data.add_argument("--download", action="store_true", help="let torchvision download what is missing")
    probe = parser.add_argument_group("linear probe")
    probe.add_argument("--probe", action="store_true", help="also train linear classifiers on the training images")
    probe.add_argument(
        "--shots",
        nargs="+",
        choices=SHOTS,
        default=list(SHOTS),
        help="training images per class; several values train several probes (default: 1 2 4 8 16 all)",
    )
    probe.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the choice of images (default: 0 1 2)"
    )
    probe.add_argument(
        "--features", nargs="+", choices=("pooled", "patches"), default=["pooled"],
        help="pooled: CLIP's image feature before its projection; patches: mean of PACL's patch embeddings "
        "(default: pooled)",
    )  # fmt: skip
    probe.add_argument("--train_limit", metavar="N", type=int, help="choose the shots from only N training images")
    add_model(parser)
    add_folder(parser, OUT)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check arguments and data, then load the model and evaluate one data set after another."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check_least(args, batch=1, workers=0, limit=1, train_limit=1)
    check_seeds(args.seeds)
    if not args.probe:
        check_unused(args, parser, ("shots", "seeds", "features", "train_limit"), "without --probe")
    check_text(args, "out", "names", "templates", "model", "split")
    if args.templates != "imagenet":  # these need open_clip, which takes seconds to import
        get_templates(args.templates)
    check_folder(args.out or OUT)
    data_sets = [open_data(name, args) for name in dict.fromkeys(args.datasets)]

    from rich.console import Console

    from eval.classification.features import Loading
    from eval.classification.linear_probe import planned_probes, probe_results
    from eval.classification.results import Setup, markdown, summary
    from eval.classification.zero_shot import planned_zero_shot, zero_shot_results

    templates = get_templates(args.templates)
    model = load_pooled(args)
    setup = Setup.of(model, args.model, Loading(args.batch, args.workers, args.precision), args.limit)
    plans = []
    results: list[Result] = []
    with ExitStack() as held:
        for data in data_sets:  # check all output folders before the first data set is evaluated
            zero_shot = planned_zero_shot(setup, data.images, templates, args.templates)
            probes = planned_probes(setup, *data.probe, args.features) if data.probe else []
            folder = held.enter_context(results_folder(args.out, OUT, [*zero_shot, *probes], args.overwrite))
            plans.append((data, zero_shot, probes, folder))
        for data, zero_shot, probes, folder in plans:
            check_names(model, data.images, templates)
            found = zero_shot_results(setup, data.images, templates, zero_shot)
            if data.probe:
                found += probe_results(setup, *data.probe, args.features, probes, (args.out or OUT) / "features")
            data.check_unchanged(zero_shot, probes)
            write_results(folder, found)
            with atomic_write(folder / "results.md") as aside:
                aside.write_text(markdown(found), encoding="utf-8")
            results += found
    console = Console(highlight=False)
    console.print(summary(results))
    for *_, folder in plans:
        console.print(f"results in {escaped(folder)}", markup=False, soft_wrap=True)
    return 0


@dataclass(frozen=True)
class Data:
    """The data of one data set.

    Attributes:
        images: the images for zero-shot classification.
        probe: training images, test images and the splits for probes; None without ``--probe``.
    """

    images: ImageSet
    probe: tuple[ImageSet, ImageSet, Splits] | None

    def check_unchanged(self, zero_shot: Sequence[Result], probes: Sequence[Result]) -> None:
        """Refuse results of images that were replaced since the results were planned.

        Raises:
            UserError: they were.
        """
        from eval.classification.results import DIGITS

        planned = [(self.images, zero_shot[0].protocol["pictures_sha256"])]
        if self.probe:
            train, test, splits = self.probe
            protocol = probes[0].protocol
            planned += [
                (train.subset(splits.needed), protocol["train_sha256"]),
                (test, protocol["pictures_sha256"]),
            ]
        for images, digest in planned:
            check_unchanged(digest, images.digest()[:DIGITS], images.benchmark.name)


def open_data(name: str, args: argparse.Namespace) -> Data:
    """Open a data set and, with ``--probe``, choose the examples for probes.

    Raises:
        UserError: files are missing, or there are too few training images.
    """
    from eval.classification.image_sets import open_image_set, trained_and_tested

    said: dict[str, None] = {}  # each note once: the test images may be opened twice

    def opened(split: str | None, limit: int | None) -> ImageSet:
        images = open_image_set(name, args.data, split, args.names, limit=limit, download=args.download)
        if not len(images):
            sizes = images.benchmark.split_sizes
            why = f": {sizes[0]} of each class are for training" if sizes and images.split == "test" else ""
            raise UserError(f"{name}: {args.data} holds no image of split {images.split}{why}")
        said.update(dict.fromkeys(images.notes))
        return images

    images = opened(args.split, args.limit)
    if name == "custom":  # official splits are what they are
        warn_of_equal(images)
    if not args.probe:
        say_notes(said)
        return Data(images, None)

    from pacl.classification.logistic import check_installed, make_splits

    check_installed()
    if (splits := images.benchmark.probe) is None:
        raise UserError(f"--probe: {name} has no training images")
    train, test = opened(splits[0], args.train_limit), opened(splits[1], args.limit)
    say_notes(said)
    if name == "custom" and (copies := trained_and_tested(train, test)):  # official splits are what they are
        warn(MODULE, f"{copies} of {counted(len(test), 'test image')} are also training images: probes know them")
    try:
        return Data(images, (train, test, make_splits(train.labels, train.keys, args.shots, args.seeds)))
    except UserError as error:
        if args.train_limit is None:
            raise
        raise UserError(f"{one_line(error)} (--train_limit {args.train_limit})") from None


def warn_of_equal(images: ImageSet) -> None:
    """Warn of images that are there several times: the figures count each."""
    from eval.classification.image_sets import equal_images

    equal, several = equal_images(images)
    if several:
        message = f"{several} of {counted(len(images), 'image')} are the same file in several classes: "
        warn(MODULE, f"{message}no classifier is right about all of them")
    if equal > several:
        message = f"{equal - several} of {counted(len(images), 'image')} are files equal to another one of their class"
        warn(MODULE, f"{message}: each of them counts")


def say_notes(notes: Iterable[str]) -> None:
    """Say what is left out of the folders."""
    for note in notes:
        say(MODULE, f"note: {note}")


def check_names(model: PACL, images: ImageSet, templates: Sequence[str]) -> None:
    """Warn of class names with words that the model does not know, and of prompts that it truncates."""
    clip, name = model.clip, images.benchmark.name
    prompts = [prompt for synonyms in images.prompts for prompt in synonyms]
    warn_of_unknown_words(MODULE, clip, prompts, f"names of {name}")
    longest = max(templates, key=lambda template: clip.count_tokens(fill(template, "x")))
    if long := sum(clip.count_tokens(fill(longest, prompt)) > clip.context_length for prompt in prompts):
        limit = f"{clip.context_length} tokens"
        warn(MODULE, f"{long} of the {len(prompts)} names of {name} exceed {limit} in the longest template; truncated")
    count = len(prompts) * len(templates)
    if count >= MANY_TEXTS and not sys.stderr.isatty():  # (a terminal shows a progress bar)
        print(f"encoding {count:,} texts for {name}", file=sys.stderr)
