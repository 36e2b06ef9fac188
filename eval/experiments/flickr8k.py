"""Training on real captions: retrieval on held-out photos and segmentation of Pascal VOC, before and after.

    python -m eval.experiments.flickr8k --voc VOCdevkit/VOC2012

Trains heads on Flickr8k with the settings of configs/flickr8k.yaml and some variants. Measured are retrieval on the
held-out photos (all five captions of each, R@1/5/10 in both directions) and mIoU on VOC's twenty classes (background
ignored, pixels of all photos). The other rows are the untrained variants of the CLIP, its pooled embedding, random
scores and the most frequent class.
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

from eval.common.command import check_least, new_parser
from eval.common.comparison import mean_and_std, train_head, write_results
from eval.common.tables import markdown_table
from eval.segmentation.benchmark import NAMES
from pacl.cli.lightning import find_config
from pacl.cli.messages import run_verb
from pacl.data.batches import ImageBatches, pair_texts
from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.masks import IGNORED, MaskFolder
from pacl.data.pairs import hold_out
from pacl.errors import ArgumentError, UserError
from pacl.files import make_folder
from pacl.metrics.retrieval import Recalls, recalls, score_all_pairs
from pacl.metrics.segmentation import count_areas, scores
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.model import PACL
from pacl.training.callbacks import SegmentationValidator

CONFIG = "configs/flickr8k.yaml"
CLASS_NAMES = NAMES / "everyday" / "voc20.txt"

# Settings of the trained rows that differ from the configuration.
METHODS: dict[str, dict[str, Any]] = {
    "mean pooling": {"temperature": float("inf")},
    "PACL on clip tokens, temperature 1, random start (the paper's)": {
        "temperature": 1.0,
        "dense": "clip",
        "start": "paper",
    },
    "PACL, temperature 1": {"temperature": 1.0},
    "PACL, temperature 0.1": {},
    "PACL, temperature 0.1, random start": {"start": "paper"},
    "PACL, temperature 0.1, naclip tokens": {"dense": "naclip"},
    "PACL, temperature 0.1, captions only": {"nouns": False},
}


class FlickrEvaluator:
    """Trains and measures heads of one frozen CLIP, on the held-out photos of Flickr8k and on VOC.

    Args:
        clip: the frozen CLIP.
        data: arguments of `CaptionData`.
        voc: photos with masks.
        size: short side in pixels that VOC's photos are resized to.
        tune: measure on other photos, as many again held out from the training photos.
    """

    def __init__(
        self, clip: Backbone, data: dict[str, Any], voc: MaskFolder, size: int | None, tune: bool = False
    ) -> None:
        self.clip, self.data, self.voc = clip, data, voc
        self.score = SegmentationValidator(voc, templates="none", size=size).score
        self.training: dict[tuple[str, bool], CaptionData] = {}  # by dense variant and nouns, with its frozen tokens
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
        """Scores of a model in percent."""
        dense = model.config.dense
        if dense not in self.tokens:
            images = map(self.clip.normalize, self.images.split(64))
            self.tokens[dense] = torch.cat([self.clip.patch_tokens(x, dense)[0].half() for x in images])
        v = torch.cat([model.embed_tokens(x.float()).half() for x in self.tokens[dense].split(64)])  # [I, P, D]
        t = model.encode_text(self.texts)
        phi = score_all_pairs(v, t, temperature=model.temperature, cosine=model.config.cosine)
        return {**percent(recalls(phi, self.positives)), **{k: 100 * x for k, x in self.score(model).items()}}

    @torch.inference_mode()
    def pooled(self) -> dict[str, float]:
        """Retrieval by CLIP's own pooled embedding."""
        images = torch.cat([self.clip.encode_image(self.clip.normalize(x)) for x in self.images.split(64)])
        return percent(recalls(images @ self.clip.encode_text(self.texts).T, self.positives))

    def random(self) -> dict[str, float]:
        """Scores of random similarities and a random class for every pixel."""
        rng = torch.Generator().manual_seed(0)
        found = percent(recalls(torch.rand(self.positives.shape, generator=rng), self.positives))
        classes = len(self.voc.labels)
        return {**found, **self.segmentation(lambda mask: torch.randint(0, classes, mask.shape, generator=rng))}

    def majority(self) -> dict[str, float]:
        """Segmentation scores of the most frequent class for every pixel."""
        masks = [self.voc[i].mask for i in range(len(self.voc))]
        most = int(np.bincount(np.concatenate([mask[mask != IGNORED] for mask in masks])).argmax())
        return self.segmentation(lambda mask: torch.full(mask.shape, most))

    def segmentation(self, label: Callable[[np.ndarray], Tensor]) -> dict[str, float]:
        """Segmentation scores of labels that do not depend on the image: mask [H, W] -> classes [H, W]."""
        masks = (self.voc[i].mask for i in range(len(self.voc)))
        areas = sum(count_areas(label(mask).numpy(), mask, len(self.voc.labels)) for mask in masks)
        found = scores(np.asarray(areas))
        return {name: 100 * float(found[name]) for name in ("miou", "pixel_accuracy")}

    def trained(self, changes: dict[str, Any], settings: dict[str, Any], epochs: int, seed: int) -> PACL:
        """A head trained with ``settings``, with ``changes``."""
        model = {**settings, **{key: value for key, value in changes.items() if key != "nouns"}}
        key = model["dense"], changes.get("nouns", True)
        if key not in self.training:
            self.training[key] = CaptionData(**{**self.data, "nouns": key[1]})
            self.training[key].split = self.parts
            twin = self.training.get((key[0], not key[1]))
            self.training[key].stores = twin.stores if twin else {}
        return train_head(self.clip, model, self.training[key], {"max_epochs": epochs}, seed)


def percent(found: Recalls) -> dict[str, float]:
    """Recalls in percent, by name."""
    row = {f"i2t R@{k}": 100 * value for k, value in found.image_to_text.items()}
    row |= {f"t2i R@{k}": 100 * value for k, value in found.text_to_image.items()}
    return {**row, "mean recall": 100 * found.mean}


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean ± standard deviation over seeds."""
    columns = [*max([row[0] for row in rows.values()], key=lambda row: len(row))]
    lines = [
        [name, *(mean_and_std([run[c] for run in runs if c in run]) for c in columns)] for name, runs in rows.items()
    ]
    return markdown_table(["", *columns], lines)


def model_settings(words: Sequence[str]) -> dict[str, Any]:
    """The values of ``--set NAME=VALUE ...``.

    Raises:
        ArgumentError: A word has no "=".
    """
    for word in words:
        if "=" not in word:
            raise ArgumentError("set", word, "must be NAME=VALUE, such as lr=0.001")
    return {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words)}


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.experiments.flickr8k", __doc__)
    parser.add_argument("--clip", metavar="MODEL", help=f"frozen CLIP (default: that of {CONFIG})")
    parser.add_argument("--pairs", metavar="FILE", help="captions (default: likewise)")
    parser.add_argument("--hold_out", type=int, metavar="N", help="images to measure on (default: likewise)")
    parser.add_argument("--voc", type=Path, default=Path("data/VOCdevkit/VOC2012"), help="folder of VOC 2012")
    parser.add_argument(
        "--size", type=int, metavar="N", help="short side of VOC's photos in pixels (default: the CLIP's own)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--epochs", type=int, metavar="N", help="of training (default: those of the configuration)")
    parser.add_argument("--tune", action="store_true", help="measure on other held-out photos, to choose settings")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only rows that match this regular expression")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="model settings of all trained rows")
    parser.add_argument("--out", type=Path, default=Path("out/flickr8k"), help="folder for the JSON and the Markdown")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = build_parser().parse_args(argv)
    check_least(args, hold_out=1, size=1, epochs=1)
    changes = model_settings(args.set)
    folder = make_folder(args.out)
    base = yaml.safe_load(find_config(CONFIG).read_text(encoding="utf-8"))
    settings = {**base["model"], **changes}
    data = dict(base["data"]["init_args"])
    data |= {key: value for key in ("pairs", "hold_out") if (value := getattr(args, key)) is not None}
    clip = load_backbone(args.clip or settings["backbone"])
    voc = MaskFolder(
        str(args.voc / "JPEGImages"), str(args.voc / "SegmentationClass"), str(CLASS_NAMES),
        only=str(args.voc / "ImageSets/Segmentation/val.txt"), ignore=(0, 255), offset=1,
    )  # fmt: skip
    evaluator = FlickrEvaluator(clip, data, voc, args.size, args.tune)
    epochs = args.epochs or base["trainer"]["max_epochs"]

    started = time.perf_counter()

    def trained(changes: dict[str, Any], seed: int) -> dict[str, float]:
        return evaluator.measure(evaluator.trained(changes, settings, epochs, seed))

    measures: dict[str, Callable[..., dict[str, float]]] = {
        "random": evaluator.random,
        "most frequent class": evaluator.majority,
        "CLIP's pooled embedding": evaluator.pooled,
    }
    measures |= {
        f"untrained, {d}": partial(evaluator.measure, PACL.untrained(clip, dense=d)) for d in clip.dense_variants
    }
    measures |= {name: partial(trained, changes) for name, changes in METHODS.items()}
    rows: dict[str, list[dict[str, float]]] = {}
    for name, measure in measures.items():
        if re.search(args.only, name):
            rows[name] = [measure(seed) for seed in args.seeds] if name in METHODS else [measure()]
            print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
    if not rows:
        raise ArgumentError("only", args.only, f"matches none of {', '.join(measures)}")
    facts = {
        "clip": clip.name, "held-out photos": len(evaluator.images), "VOC photos": len(voc), "epochs": epochs,
        "seeds": args.seeds, "minutes": round((time.perf_counter() - started) / 60, 1),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    page = f"# Flickr8k: before and after\n\n{', '.join(f'{k} {v}' for k, v in facts.items())}\n\n{table(rows)}\n"
    write_results(folder, "flickr8k", {"facts": facts, "rows": rows}, page)
    print(page)
    return 0


if __name__ == "__main__":
    run_verb("eval.experiments.flickr8k", main)
