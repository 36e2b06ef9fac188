"""Training on real captions: retrieval and segmentation of trained heads, compared with training-free baselines.

    python -m eval.experiments.flickr8k --voc VOCdevkit/VOC2012

Trains heads on Flickr8k with the settings of configs/flickr8k.yaml and some variants of them. The baselines are the
training-free dense variants of the same CLIP, its pooled embedding, random scores and the most frequent class.

Retrieval is evaluated on held-out photos of Flickr8k with all five captions (recall at 1, 5 and 10 in both directions).
Segmentation is evaluated by mIoU on the twenty classes of Pascal VOC 2012 val, where background pixels are ignored.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from eval.common.command import add_overwrite, check_least, check_seeds, new_parser
from eval.common.figures import check_report, figures_arguments
from eval.common.folders import only_writer
from eval.common.head_training import mean_and_std, train_head, write_report
from eval.common.tables import markdown_table
from eval.segmentation.benchmark import NAMES
from pacl.cli.configs import find_config
from pacl.cli.messages import run_verb
from pacl.data.batches import ImageBatches, pair_texts
from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.masks import IGNORED, MaskFolder
from pacl.data.pairs import hold_out
from pacl.errors import ArgumentError, UserError
from pacl.files import make_folder
from pacl.metrics.retrieval import recalls, score_all_pairs
from pacl.metrics.segmentation import count_areas, scores
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.model import PACL
from pacl.training.callbacks import SegmentationValidator

CONFIG = "configs/flickr8k.yaml"
CLASS_NAMES = NAMES / "everyday" / "voc20.txt"

# The trained methods, each with the settings that its name states; all others are those of the configuration.
METHODS: dict[str, dict[str, Any]] = {
    "mean pooling": {"temperature": float("inf")},
    "PACL on clip tokens, temperature 1, random start (the paper's)": {
        "temperature": 1.0,
        "dense": "clip",
        "start": "paper",
    },
    "PACL, temperature 1": {"temperature": 1.0},
    "PACL, temperature 0.1": {"temperature": 0.1},
    "PACL, temperature 0.1, random start": {"temperature": 0.1, "start": "paper"},
    "PACL, temperature 0.1, naclip tokens": {"temperature": 0.1, "dense": "naclip"},
    "PACL, temperature 0.1, captions only": {"temperature": 0.1, "nouns": False},
}


class FlickrEvaluator:
    """Trains heads on one frozen CLIP and evaluates them on the held-out photos of Flickr8k and on VOC.

    Args:
        clip: the frozen CLIP.
        data: arguments of `CaptionData`.
        voc: photos with masks.
        size: short side in pixels to which VOC's photos are resized; ``None`` is the CLIP's native size.
        tune: hold out as many photos again from the training photos, and evaluate on these instead.

    Raises:
        UserError: a held-out photo cannot be read.
    """

    def __init__(
        self, clip: Backbone, data: dict[str, Any], voc: MaskFolder, size: int | None, tune: bool = False
    ) -> None:
        self.clip, self.data, self.voc = clip, data, voc
        self.score = SegmentationValidator(voc, templates="none", size=size).score
        self.training: dict[tuple[str, bool], CaptionData] = {}  # (dense variant, nouns) -> training data
        self.parts = CaptionData(**data).parts()
        if tune:
            kept, held = hold_out(self.parts[0][0], len(self.parts[1][0]))
            self.parts = [kept], [held]
        (held_out,) = self.parts[1]
        self.images, unreadable = ImageBatches(held_out, [range(len(held_out))], SquareCrop(), clip.size)[0]
        if unreadable:
            raise UserError(f"{len(unreadable)} held-out images cannot be read: {next(iter(unreadable.values()))}")
        self.texts, self.positives = pair_texts([held_out.descriptions(i) for i in range(len(held_out))])
        self.tokens: dict[str, Tensor] = {}

    @torch.inference_mode()
    def measure(self, model: PACL) -> dict[str, float]:
        """Evaluate a model: recalls, mIoU and pixel accuracy in percent, by name."""
        dense = model.config.dense
        if dense not in self.tokens:
            images = map(self.clip.normalize, self.images.split(64))
            self.tokens[dense] = torch.cat([self.clip.patch_tokens(x, dense)[0].half() for x in images])
        v = torch.cat([model.embed_tokens(x.float()).half() for x in self.tokens[dense].split(64)])  # [I, P, D]
        t = model.encode_text(self.texts)
        phi = score_all_pairs(v, t, temperature=model.temperature, cosine=model.config.cosine)
        return {**recalls(phi, self.positives).percent(), **{k: 100 * x for k, x in self.score(model).items()}}

    @torch.inference_mode()
    def pooled(self) -> dict[str, float]:
        """Recalls of CLIP's own pooled embedding in percent, by name."""
        images = torch.cat([self.clip.encode_image(self.clip.normalize(x)) for x in self.images.split(64)])
        return recalls(images @ self.clip.encode_text(self.texts).T, self.positives).percent()

    def random(self) -> dict[str, float]:
        """Scores in percent, as in `measure`, of random similarities and a random class for every pixel."""
        rng = torch.Generator().manual_seed(0)
        found = recalls(torch.rand(self.positives.shape, generator=rng), self.positives).percent()
        classes = len(self.voc.labels)
        return {**found, **self.segmentation(lambda mask: torch.randint(0, classes, mask.shape, generator=rng))}

    def majority(self) -> dict[str, float]:
        """mIoU and pixel accuracy in percent if every pixel gets the most frequent class."""
        masks = [self.voc[i].mask for i in range(len(self.voc))]
        most_frequent = int(np.bincount(np.concatenate([mask[mask != IGNORED] for mask in masks])).argmax())
        return self.segmentation(lambda mask: torch.full(mask.shape, most_frequent))

    def segmentation(self, label: Callable[[np.ndarray], Tensor]) -> dict[str, float]:
        """mIoU and pixel accuracy in percent of a baseline that ignores the image.

        Args:
            label: ground truth [H, W] -> predicted classes [H, W].
        """
        masks = (self.voc[i].mask for i in range(len(self.voc)))
        areas = sum(count_areas(label(mask).numpy(), mask, len(self.voc.labels)) for mask in masks)
        found = scores(np.asarray(areas))
        return {name: 100 * float(found[name]) for name in ("miou", "pixel_accuracy")}

    def train(self, changes: dict[str, Any], settings: dict[str, Any], epochs: int, seed: int) -> PACL:
        """Train a head.

        Args:
            changes: settings of the method, which replace those in ``settings``; ``nouns`` is a setting of the data.
            settings: settings of the model.
            epochs: number of epochs.
            seed: training seed.
        """
        model = {**settings, **{key: value for key, value in changes.items() if key != "nouns"}}
        key = model["dense"], changes.get("nouns", True)
        if key not in self.training:
            self.training[key] = CaptionData(**{**self.data, "nouns": key[1]})
            self.training[key].split = self.parts
            other = self.training.get((key[0], not key[1]))  # the same photos: frozen tokens are shared
            self.training[key].stores = other.stores if other else {}
        return train_head(self.clip, model, self.training[key], {"max_epochs": epochs}, seed)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """A Markdown table with a row per method: mean ± standard deviation over seeds, in percent."""
    columns = [*max([row[0] for row in rows.values()], key=lambda row: len(row))]
    lines = [
        [name, *(mean_and_std([run[c] for run in runs if c in run]) for c in columns)] for name, runs in rows.items()
    ]
    return markdown_table(["", *columns], lines)


def model_settings(words: Sequence[str]) -> dict[str, Any]:
    """Parse the values of ``--set``: ["NAME=VALUE", ...] -> {NAME: VALUE}, with values read as YAML.

    Raises:
        ArgumentError: one has no "=", or is a setting in which the methods differ.
    """
    own = sorted(set().union(*METHODS.values()))
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals:
            raise ArgumentError("set", word, "must be NAME=VALUE, such as lr=0.001")
        if name in own:
            raise ArgumentError("set", word, f"the methods differ in {', '.join(own)}: choose one of them with --only")
    return {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words)}


def pattern(text: str) -> re.Pattern[str]:
    """Compile the value of ``--only``.

    Raises:
        ArgumentError: it is no regular expression.
    """
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ArgumentError("only", text, f"not a regular expression ({error}); write \\( for a parenthesis") from None


def load_clip(name: str) -> Backbone:
    """Load the frozen CLIP; errors name ``clip``, the flag that chooses it."""
    try:
        return load_backbone(name)
    except ArgumentError as error:
        raise ArgumentError("clip", error.value, error.reason) from error


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.experiments.flickr8k", __doc__)
    parser.add_argument("--clip", metavar="MODEL", help=f"frozen CLIP (default: as in {CONFIG})")
    parser.add_argument("--pairs", metavar="FILE", help=f"table of images and captions (default: as in {CONFIG})")
    parser.add_argument(
        "--hold_out", type=int, metavar="N", help=f"photos held out to evaluate retrieval on (default: as in {CONFIG})"
    )
    parser.add_argument(
        "--voc",
        type=Path,
        default=Path("data/VOCdevkit/VOC2012"),
        help="folder of Pascal VOC 2012 (default: data/VOCdevkit/VOC2012)",
    )
    parser.add_argument(
        "--size", type=int, metavar="N", help="short side of VOC's photos in pixels (default: the CLIP's native size)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"epochs of training (default: as in {CONFIG})")
    parser.add_argument(
        "--tune", action="store_true", help="evaluate on other held-out photos, to choose hyperparameters"
    )
    parser.add_argument("--only", default="", metavar="PATTERN", help="only methods that match this regular expression")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE",
        help="model settings for all trained methods, but for those in which they differ",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/flickr8k"),
        help="folder for flickr8k.json and flickr8k.md (default: out/flickr8k)",
    )
    add_overwrite(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train and evaluate all methods, print the table and save it."""
    args = build_parser().parse_args(argv)
    check_least(args, hold_out=1, size=1, epochs=1)
    check_seeds(args.seeds)
    only = pattern(args.only)
    changes = model_settings(args.set)
    folder, arguments = make_folder(args.out), figures_arguments(args)
    with only_writer(folder):
        check_report(folder / "flickr8k.json", arguments, args.overwrite)
        experiment(args, only, changes, folder, arguments)
    return 0


def experiment(
    args: argparse.Namespace, only: re.Pattern[str], changes: dict[str, Any], folder: Path, arguments: dict[str, Any]
) -> None:
    """`main` for parsed flags and a folder that is free."""
    base = yaml.safe_load(find_config(CONFIG).read_text(encoding="utf-8"))
    settings = {**base["model"], **changes}
    data = dict(base["data"]["init_args"])
    data |= {key: value for key in ("pairs", "hold_out") if (value := getattr(args, key)) is not None}
    clip = load_clip(args.clip or settings["backbone"])
    voc = MaskFolder(
        str(args.voc / "JPEGImages"), str(args.voc / "SegmentationClass"), str(CLASS_NAMES),
        only=str(args.voc / "ImageSets/Segmentation/val.txt"), ignore=(0, 255), offset=1,
    )  # fmt: skip
    evaluator = FlickrEvaluator(clip, data, voc, args.size, args.tune)
    epochs = args.epochs or base["trainer"]["max_epochs"]

    started = time.perf_counter()

    def train_and_measure(changes: dict[str, Any], seed: int) -> dict[str, float]:
        return evaluator.measure(evaluator.train(changes, settings, epochs, seed))

    measures: dict[str, Callable[..., dict[str, float]]] = {
        "random": evaluator.random,
        "most frequent class": evaluator.majority,
        "CLIP's pooled embedding": evaluator.pooled,
    }
    measures |= {
        f"untrained, {d}": partial(evaluator.measure, PACL.untrained(clip, dense=d)) for d in clip.dense_variants
    }
    measures |= {name: partial(train_and_measure, changes) for name, changes in METHODS.items()}
    if not (chosen := [name for name in measures if only.search(name)]):
        raise ArgumentError("only", args.only, f"matches none of {', '.join(measures)}")
    rows: dict[str, list[dict[str, float]]] = {}
    for name, measure in measures.items():
        if name in chosen:
            rows[name] = [measure(seed) for seed in args.seeds] if name in METHODS else [measure()]
            print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
    photos = "held-out photos, others to tune on" if args.tune else "held-out photos"
    facts = {
        "clip": clip.name, "pairs": data["pairs"], photos: len(evaluator.images), "VOC photos": len(voc),
        "VOC size": args.size or "native", "epochs": epochs, "seeds": args.seeds,
        **({"set": " ".join(args.set)} if args.set else {}), "minutes": round((time.perf_counter() - started) / 60, 1),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    page = f"# Heads trained on Flickr8k\n\n{', '.join(f'{k} {v}' for k, v in facts.items())}\n\n{table(rows)}\n"
    write_report(folder, "flickr8k", {"arguments": arguments, "facts": facts, "rows": rows}, page)
    print(page)


if __name__ == "__main__":
    run_verb("eval.experiments.flickr8k", main)
