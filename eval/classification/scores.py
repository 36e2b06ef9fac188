"""Does phi classify images better than a pooled embedding? Both, and their sum, with settings chosen on other images.

    python -m eval.classification.scores custom --data caltech101 --names eval/classification/class_names/caltech101.txt
    python -m eval.classification.scores imagenet --data imagenet-sample --limit 500
    python -m eval.classification.scores voc20 --data . --partial
    python -m eval.classification.scores custom --images DIR --masks DIR --classes FILE --all

Data sets are those of `eval.classification`, whose images have one class each, and those of `eval.segmentation`, whose
images show the classes that their masks have; ``custom`` is a folder per class, or with --masks images with masks.

The scores:

pooled   one vector per image. A CLIP or dual encoder has its own, of a square from the centre. Towers that were trained
         apart have none: it is the head's embedding of the mean of the square's patch tokens.
phi      PACL's compatibility of the patches of the whole image and the text.
sum      pooled + w phi.

Every second image is in the first half. Settings with which a score names most images right in one half are used on
the other half, so that each image is scored with settings that it had no part in choosing. Printed are the share of
images whose best name is one that they show (of images with one class: top-1), its difference to the chosen pooled
score with a 95 % interval (paired bootstrap over images), and the mean average precision (mean of both halves): for
each name, images are ranked by its score and the precision is averaged over those that show it; then the mean over
names.

``--all`` prints the scores of `pacl classify` first, with each set of templates, on all images: w is 1, and phi that of
the model.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from eval.classification.image_sets import IMAGE_BENCHMARKS, open_image_set
from eval.classification.intervals import rate_intervals
from eval.common.command import add_model, add_overwrite, check_least, load, new_parser
from eval.common.figures import check_figures, figures_arguments, save_figures
from eval.common.tables import markdown_table
from eval.segmentation.arguments import OF_DATA, add_data, find_benchmark, input_files
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.classification.preprocessing import preprocessing
from pacl.classification.scorer import BATCH, Scorer, best_of_labels
from pacl.cli.messages import need_output, run_verb, say
from pacl.cli.parser import check_unused
from pacl.cli.progress import tracked
from pacl.data.masks import IGNORED
from pacl.errors import ArgumentError, UserError
from pacl.models.compatibility import compatibility
from pacl.models.model import PACL
from pacl.models.precision import tower_autocast
from pacl.printing import counted
from pacl.prompts import Label, get_templates
from pacl.segmentation.encode import encode_images
from pacl.segmentation.settings import SegmenterSettings

MODULE = "eval.classification.scores"
TEMPLATES = ("none", "photo", "paper")
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, math.inf)  # infinity is the mean of the patches
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
PAPER = 1.0  # the temperature of the published formula

Scores = dict["Setting", np.ndarray]
"""The scores of all images with all labels, float32 [I, C], by their setting."""


class Setting(NamedTuple):
    """What a score is computed with; None where it has no such setting."""

    templates: str
    dense: str | None = None
    temperature: float | None = None
    weight: float | None = None

    def __str__(self) -> str:
        parts = [f"templates {self.templates}"]
        if self.temperature is not None:
            at = "mean of the patches" if math.isinf(self.temperature) else f"temperature {self.temperature:g}"
            parts += [f"{self.dense} tokens", at]
        if self.weight is not None:
            parts.append(f"w {self.weight:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Images:
    """Images and what they show.

    Attributes:
        read: index -> image, uint8 [H, W, 3].
        truth: which of the C labels each image shows, bool [I, C].
        labels: C labels.
    """

    read: Callable[[int], np.ndarray]
    truth: np.ndarray
    labels: list[Label]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        score: its name.
        settings: those used on the first half and on the second, or on all images.
        hits: of each image, whether its best name is one that it shows, bool [I].
        precision: mean average precision in [0, 1].
    """

    score: str
    settings: tuple[Setting, ...]
    hits: np.ndarray
    precision: float


def open_images(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Images:
    """The data set of the arguments; ``--limit`` takes evenly spaced images.

    Raises:
        UserError: there is no such data set, or it lacks files.
    """
    name = args.dataset
    if name in IMAGE_BENCHMARKS and not (name == CUSTOM and args.masks):
        unread = [name for name in OF_DATA if name not in ("data", "split")]
        check_unused(args, parser, unread, "on images in a folder for each class")
        images = open_image_set(name, args.data, args.split, args.names, limit=args.limit)
        for note in images.notes:
            say(MODULE, f"note: {note}")
        if len(images) < 2:
            raise UserError(f"{name}: {args.data} holds {counted(len(images), 'image')}; two halves need more")
        labels = [Label(key, prompts) for key, prompts in zip(images.keys, images.prompts, strict=True)]
        return Images(images.read, np.eye(len(labels), dtype=bool)[images.labels], labels)
    if name not in (*BENCHMARKS, CUSTOM):
        raise UserError(f"{name}: no such data set; choose from {', '.join((*IMAGE_BENCHMARKS, *BENCHMARKS))}")
    if args.names is not None:
        others = "those of masks are --classes" if name == CUSTOM else f"{name} has names of its own"
        raise ArgumentError("names", args.names, f"is for images in a folder for each class; {others}")
    benchmark = find_benchmark(name, args)
    folder = benchmark.open(args.data, args.split, names=benchmark.lists()[0], partial=args.partial)
    classes = range(1 if benchmark.background else 0, len(folder.labels))
    truth = np.array([_shown(folder[i].mask, classes) for i in tracked(range(len(folder)), "masks")])
    used = np.flatnonzero(truth.any(axis=1)) if len(truth) else np.array([], dtype=int)
    if args.limit is not None and args.limit < len(used):
        used = used[np.arange(args.limit) * len(used) // args.limit]
    if len(used) < 2:
        raise UserError(f"{name}: a class is in {counted(len(used), 'image')}; two halves need more")
    return Images(lambda i: folder[int(used[i])].image(), truth[used], [folder.labels[c] for c in classes])


def _shown(mask: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    return np.isin(classes, mask[mask != IGNORED])


class Embedded(NamedTuple):
    """An image: pooled embedding [D], and by dense variant its patch vectors [P, D]."""

    pooled: Tensor
    patches: dict[str, Tensor]


@torch.inference_mode()
def embed(model: PACL, images: Images, dense: Sequence[str], precision: str) -> Iterator[Embedded]:
    """Embed the images in order, with a progress bar."""
    models = []
    for variant in dense:
        model.clip.check_dense(variant)
        models.append(copy.copy(model))
        models[-1].config = dataclasses.replace(model.config, dense=variant)
    settings = SegmenterSettings(scales=(1.0,), precision=precision, window_batch=BATCH)  # type: ignore[arg-type]
    prepare = preprocessing(model)
    for start in tracked(range(0, len(images.truth), BATCH), "images"):
        batch = [images.read(i) for i in range(start, min(start + BATCH, len(images.truth)))]
        squares = torch.stack([prepare(Image.fromarray(image)) for image in batch]).to(model.device)
        pooled = embed_pooled(model, squares, precision)
        encoded = encode_images(models, batch, settings)
        for i, vector in enumerate(pooled):
            maps = {v: own[i].patches.values for v, own in zip(dense, encoded, strict=True)}
            yield Embedded(vector, {v: rearrange(each, "t d h w -> (t h w) d") for v, each in maps.items()})


def embed_pooled(model: PACL, squares: Tensor, precision: str) -> Tensor:
    """Pooled embeddings, float32 [B, D] of unit norm, of preprocessed squares [B, 3, S, S]; see the module."""
    with tower_autocast(precision, model.clip):
        if model.clip.shared:
            return model.clip.encode_image(squares).float()
        tokens = model.clip.patch_tokens(squares, model.config.dense)[0]
    return model.embed_tokens(tokens.float().mean(dim=1))


@torch.inference_mode()
def all_scores(
    model: PACL, images: Images, dense: Sequence[str], templates: Sequence[str] = TEMPLATES, precision: str = "fp32"
) -> tuple[Scores, Scores]:
    """The pooled score and phi with every setting: float32 [I, C] each.

    Args:
        model: the model.
        images: two or more.
        dense: dense variants of the patches.
        templates: names or files of sentence templates.
        precision: of the image tower.
    """
    labels = {name: Scorer(model, "phi", templates=name).encode(images.labels) for name in templates}
    pooled: dict[Setting, list[Tensor]] = {Setting(name): [] for name in templates}
    grid = itertools.product(templates, dense, dict.fromkeys((*TEMPERATURES, float(model.temperature))))
    phi: dict[Setting, list[Tensor]] = {Setting(*each): [] for each in grid}
    for vector, patches in embed(model, images, dense, precision):
        for key, found in pooled.items():
            encoded = labels[key.templates]
            texts = encoded.clip if model.clip.shared else encoded.head
            found.append(best_of_labels(vector[None] @ texts.T, encoded).cpu())
        for key, found in phi.items():
            encoded = labels[key.templates]
            by_text = compatibility(
                patches[str(key.dense)][None],
                encoded.head,
                temperature=key.temperature or PAPER,
                cosine=model.config.cosine,
            )
            found.append(best_of_labels(by_text, encoded).cpu())
    return _stacked(pooled), _stacked(phi)


def _stacked(scores: Mapping[Setting, Sequence[Tensor]]) -> Scores:
    return {key: torch.cat(list(found)).numpy() for key, found in scores.items()}


def compare(pooled: Scores, phi: Scores, own: Setting, truth: np.ndarray) -> list[Row]:
    """Measure the scores with fixed settings, and with settings chosen on the other half.

    Args:
        pooled, phi: see `all_scores`.
        own: the setting of phi that the model has.
        truth: see `Images`.
    """

    def summed(key: Setting) -> np.ndarray:
        return pooled[Setting(key.templates)] + key.weight * phi[key._replace(weight=None)]

    sums = [key._replace(weight=weight) for key in phi for weight in WEIGHTS]
    paper = Setting("paper", "clip", PAPER)
    if paper not in phi:  # a tower without CLIP's last block
        paper = paper._replace(dense=own.dense)
    fixed = {
        "pooled, plain names": (Setting("none"), pooled.__getitem__),
        "phi as the model has it, plain names": (own, phi.__getitem__),
        "phi as in the paper": (paper, phi.__getitem__),
    }
    chosen = {
        "pooled, chosen": (list(pooled), pooled.__getitem__),
        "phi, chosen": (list(phi), phi.__getitem__),
        "pooled + w phi, chosen": (sums, summed),
    }
    rows = [row(name, (key, key), scores, truth) for name, (key, scores) in fixed.items()]
    for name, (keys, scores) in chosen.items():
        rows.append(row(name, choose(keys, scores, truth), scores, truth))
    return rows


def on_all(pooled: Scores, phi: Scores, own: Setting, truth: np.ndarray) -> list[Row]:
    """Measure the scores of `pacl classify` on all images, with each set of templates; see `compare`."""
    rows = []
    for plain, values in pooled.items():
        key = own._replace(templates=plain.templates)
        both = {"pooled": (plain, values), "phi": (key, phi[key])}
        both["pooled + phi"] = key._replace(weight=1.0), values + phi[key]
        rows += [Row(name, (at,), hits(v, truth), mean_precision(v, truth)) for name, (at, v) in both.items()]
    return rows


def halves(count: int) -> tuple[slice, slice]:
    """Every second image, and the others."""
    return slice(0, count, 2), slice(1, count, 2)


def hits(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether the best label of each image is one that it shows, bool [I]."""
    return truth[np.arange(len(truth)), scores.argmax(axis=1)]


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


def mean_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """`average_precision`, the mean over the labels that an image shows; both are [I, C]."""
    return float(np.mean([average_precision(v, t) for v, t in zip(scores.T, truth.T, strict=True) if t.any()]))


def choose(
    keys: Sequence[Setting], scores: Callable[[Setting], np.ndarray], truth: np.ndarray
) -> tuple[Setting, Setting]:
    """For each half, the setting that is best on the other; of equal ones the first."""
    found = np.array([hits(scores(key), truth) for key in keys])  # [K, I]
    first, second = (found[:, half].mean(axis=1).argmax() for half in halves(len(truth)))
    return keys[second], keys[first]


def row(
    name: str, settings: tuple[Setting, Setting], scores: Callable[[Setting], np.ndarray], truth: np.ndarray
) -> Row:
    """Measure a score with the settings of each half."""
    found = np.zeros(len(truth), dtype=bool)
    precisions = []
    for half, key in zip(halves(len(truth)), settings, strict=True):
        values, shown = scores(key)[half], truth[half]
        found[half] = hits(values, shown)
        precisions.append(mean_precision(values, shown))
    return Row(name, settings, found, float(np.mean(precisions)))


def table(rows: Sequence[Row], base: np.ndarray) -> str:
    """The rows as Markdown, with their gain over the hits of the chosen pooled score, bool [I]."""
    cells = []
    for each in rows:
        low, high = rate_intervals(each.hits.astype(float) - base, np.zeros(len(base), dtype=int))["top1"]
        difference = 100 * (each.hits.mean() - base.mean())
        gain = "" if each.hits is base else f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
        settings = "; ".join(dict.fromkeys(map(str, each.settings)))
        cells.append([each.score, settings, f"{100 * each.hits.mean():.1f}", gain, f"{100 * each.precision:.1f}"])
    return markdown_table(("score", "settings", "right, %", "gain over pooled", "mAP, %"), cells, range(2, 5))


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser(MODULE, __doc__)
    parser.add_argument("dataset", metavar="DATASET", help=", ".join((*IMAGE_BENCHMARKS, *BENCHMARKS)))
    add_data(parser)
    parser.add_argument("--names", metavar="FILE", help="file with other class names, as for eval.classification")
    parser.add_argument("--limit", type=int, metavar="N", help="N images, evenly spaced")
    parser.add_argument(
        "--tokens", nargs="+", default=[], metavar="VARIANT",
        help="further dense variants that phi may choose from (default: the model's own and clip)",
    )  # fmt: skip
    parser.add_argument(
        "--templates", nargs="+", default=[], metavar="NAME",
        help=f"further templates that scores may choose from, as for pacl classify (default: {', '.join(TEMPLATES)})",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="also the scores of pacl classify, on all images")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the figures as JSON")
    add_overwrite(parser)
    add_model(parser)
    return parser


def check_tokens(model: PACL, variants: Sequence[str]) -> None:
    """Refuse dense variants that the image tower does not support, before anything is encoded.

    Raises:
        ArgumentError: ``tokens``: one is not supported.
    """
    for variant in variants:
        try:
            model.clip.check_dense(variant)
        except ArgumentError as error:
            raise ArgumentError("tokens", variant, error.reason) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print.

    Raises:
        UserError: data or a model that cannot be had.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.out is None:
        need_output()
    check_least(args, limit=2)
    for name in args.templates:
        get_templates(name)
    check_figures(args, MODULE, input_files(args))
    images = open_images(args, parser)
    model = load(args)
    check_figures(args, MODULE, input_files(args))
    arguments = figures_arguments(args)
    check_tokens(model, args.tokens)
    own = Setting("none", model.config.dense, float(model.temperature))
    last = ["clip"] if "clip" in model.clip.dense_variants else []
    dense = list(dict.fromkeys([model.config.dense, *last, *args.tokens]))
    templates = list(dict.fromkeys([*TEMPLATES, *args.templates]))
    measured = *all_scores(model, images, dense, templates, args.precision), own, images.truth
    rows = compare(*measured)
    base = next(row.hits for row in rows if row.score == "pooled, chosen")
    extent = f"{counted(len(images.truth), 'image')}, {counted(len(images.labels), 'name')}"
    print(f"{args.dataset}: {extent}, model {args.model}, {args.precision}\n")
    every = on_all(*measured) if args.all else []
    if every:
        print(f"{table(every, base)}\n")
    print(table(rows, base))
    if args.out:
        found = [(r.score, list(map(str, r.settings)), float(r.hits.mean()), r.precision) for r in [*every, *rows]]
        figures = [dict(zip(("score", "settings", "right", "map"), each, strict=True)) for each in found]
        save_figures(args.out, MODULE, arguments, figures, args.overwrite)
    return 0


if __name__ == "__main__":
    run_verb(MODULE, main)
