"""Speed and accuracy of bfloat16: time of the image tower in fp32 and bf16, and how many pixels get the same label.

    python -m eval.speed.precision photos/ --model open_clip:ViT-B-16-quickgelu/openai
    python -m eval.speed.precision photo.jpg --prompt "a dog" grass --device cuda --batch 32

Only the image tower is timed, on square crops of the model's native size; fp32 and bf16 alternate on the same batches.
For the comparison of labels, whole images are segmented as by `pacl.segment`, without a background. The choice of
``--precision auto`` is good if bf16 is used only where it is faster and at least 99.5 % of the labels agree.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.command import check_least, new_parser
from eval.segmentation.registry import BENCHMARKS
from eval.speed.timing import describe, seconds
from pacl.cli.inputs import find_images
from pacl.cli.messages import run_verb
from pacl.cli.model import add_model, load
from pacl.images import open_image
from pacl.models.precision import Precision
from pacl.prompts import Label, parse_prompt, read_classes
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pacl.models.model import PACL

CHOICES: tuple[Precision, ...] = ("fp32", "bf16")


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.precision", __doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="images, or folders of images")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N images")
    words = parser.add_argument_group("classes (default: the twenty classes of VOC)")
    words.add_argument("--prompt", nargs="+", default=[], metavar="TEXT", help="prompts")
    words.add_argument("--classes", metavar="FILE", help="text file with one label per line, as for pacl.segment")
    add_model(parser.add_argument_group("model"))
    run = parser.add_argument_group("run")
    run.add_argument("--batch", type=int, default=8, metavar="N", help="images per batch (default: 8)")
    run.add_argument("--runs", type=int, default=3, metavar="N", help="timed runs per batch (default: 3)")
    run.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="short side of the segmented images in pixels (default: the model's own)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure times and agreement and print them."""
    args = build_parser().parse_args(argv)
    check_least(args, batch=1, runs=1, limit=1)
    labels = [parse_prompt(text) for text in args.prompt]
    labels += read_classes(args.classes) if args.classes else []
    labels = labels or read_classes(BENCHMARKS["voc20"].names_file())
    settings = SegmenterSettings(size=args.size, window_batch=args.batch, background="none")
    images = [open_image(file.path) for file in find_images(args.images, Path("out")).files[: args.limit]]
    model = load(args)
    from pacl.models.precision import has_bf16, resolve_precision

    able = "has" if has_bf16(model.device.type) else "has no"
    auto = resolve_precision("auto", model.clip)
    print(f"{args.model}, dense {model.config.dense}, {describe(model.device)}")
    print(f"{model.device} {able} bf16 arithmetic; auto is {auto}")
    what = f"{len(images)} images of {model.clip.size} px, {len(labels)} labels"
    print(f"{what}, batches of {args.batch}, {args.runs} runs", flush=True)
    times = tower_times(model, squares(model, images).split(args.batch), args.runs)
    for precision, own in times.items():
        print(f"{precision}  {own.least:8.1f} ms per image at least, {own.median:8.1f} median")
    ratio = times["fp32"].median / times["bf16"].median
    print(f"bf16 is {ratio:.2f} times as fast as fp32 (median)", flush=True)
    agree = agreement(model, images, labels, settings)
    print(f"labels agree on {sum(agree) / len(agree):.3%} of the pixels, in the worst image on {min(agree):.3%}")
    return 0


def squares(model: PACL, images: Sequence[np.ndarray]) -> Tensor:
    """Preprocess images, uint8 [H, W, 3] each, to normalised squares, float32 [I, 3, S, S], on the model's device."""
    import torch
    from PIL import Image

    from eval.classification.features import preprocessing

    transform = preprocessing(model)
    return torch.stack([transform(Image.fromarray(image)) for image in images]).to(model.device)


@dataclass(frozen=True)
class Times:
    """Milliseconds per image: minimum and median over all runs of all batches."""

    least: float
    median: float


def tower_times(model: PACL, batches: Sequence[Tensor], runs: int) -> dict[str, Times]:
    """Time the image tower in each precision of `CHOICES`.

    Args:
        model: the model.
        batches: batches of normalised images, [B, 3, S, S] each.
        runs: timed runs per batch and precision; the precisions alternate.

    Returns:
        Precision -> `Times`.
    """
    import torch

    found: dict[str, list[float]] = {precision: [] for precision in CHOICES}
    with torch.inference_mode():
        for precision in found:  # untimed: the first call includes initialization
            run_tower(model, batches[0], precision)
        for _ in range(runs):
            for batch in batches:
                for precision, own in found.items():
                    own.append(1e3 * seconds(partial(run_tower, model, batch, precision), model.device) / len(batch))
    return {precision: Times(min(own), statistics.median(own)) for precision, own in found.items()}


def run_tower(model: PACL, images: Tensor, precision: str) -> None:
    """Run the image tower once on normalised images [B, 3, S, S]."""
    from pacl.models.precision import tower_autocast

    with tower_autocast(precision, model.clip):
        model.clip.patch_tokens(images, model.config.dense)


def agreement(
    model: PACL, images: Sequence[np.ndarray], labels: Sequence[Label], settings: SegmenterSettings
) -> list[float]:
    """The share of pixels of each image, in [0, 1], that have the same label in both precisions of `CHOICES`."""
    from pacl.segmentation.segmenter import Segmenter

    segmenters = [Segmenter(model, replace(settings, precision=precision)) for precision in CHOICES]
    shares = []
    for first in range(0, len(images), settings.window_batch):
        part = images[first : first + settings.window_batch]
        exact, rounded = (segmenter.predict_batch(part, labels) for segmenter in segmenters)
        shares += [float((a.index == b.index).mean()) for a, b in zip(exact, rounded, strict=True)]
    return shares


if __name__ == "__main__":
    run_verb("eval.speed.precision", main)
