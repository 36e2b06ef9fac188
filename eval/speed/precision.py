"""What bfloat16 gains and changes: the image tower's time in fp32 and bf16, and the share of pixels with equal labels.

    python -m eval.speed.precision photos/ --model open_clip:ViT-B-16-quickgelu/openai
    python -m eval.speed.precision photo.jpg --prompt "a dog" grass --device cuda --batch 32

Times are of the tower alone, on squares of the model's own size; fp32 and bf16 take turns on the same batches. Labels
are those of the whole pictures, as `pacl.segment` computes them, without background. ``--precision auto`` is meant to
be bf16 only where it is faster and at least 99.5 % of the labels agree.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eval.common.command import new_parser
from eval.segmentation.registry import BENCHMARKS
from pacl.cli.inputs import find_pictures
from pacl.cli.messages import run_verb
from pacl.cli.model import add_model, load
from pacl.errors import UserError
from pacl.images import open_image
from pacl.models.precision import Precision
from pacl.prompts import Label, parse_prompt, read_classes
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from pacl.models.backbone import Backbone
    from pacl.models.model import PACL

CHOICES: tuple[Precision, ...] = ("fp32", "bf16")


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.precision", __doc__)
    parser.add_argument("pictures", nargs="+", metavar="IMAGE_OR_FOLDER", help="pictures, or folders of them")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    words = parser.add_argument_group("what competes for the pixels (default: the twenty classes of VOC)")
    words.add_argument("--prompt", nargs="+", default=[], metavar="TEXT", help="prompts")
    words.add_argument("--classes", metavar="FILE", help="text file with a label a line, as pacl.segment reads it")
    add_model(parser.add_argument_group("model"))
    how = parser.add_argument_group("how")
    how.add_argument("--batch", type=int, default=8, metavar="N", help="images through the tower at once (default: 8)")
    how.add_argument("--runs", type=int, default=3, metavar="N", help="times that every batch is timed (default: 3)")
    how.add_argument("--size", type=int, metavar="N", help="short side of the pictures (default: the model's own)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Load, time, compare, print."""
    args = build_parser().parse_args(argv)
    for flag in ("batch", "runs", "limit"):
        if (value := getattr(args, flag)) is not None and value < 1:
            raise UserError(f"--{flag} {value}: must be at least 1")
    labels = [parse_prompt(text) for text in args.prompt]
    labels += read_classes(args.classes) if args.classes else []
    labels = labels or read_classes(BENCHMARKS["voc20"].names_file())
    settings = SegmenterSettings(size=args.size, window_batch=args.batch, background="none")
    pictures = [open_image(picture.path) for picture in find_pictures(args.pictures, Path("out"))[: args.limit]]
    model = load(args)
    describe(model, args.model)
    what = f"{len(pictures)} images of {model.clip.size} px, {len(labels)} labels"
    print(f"{what}, batches of {args.batch}, {args.runs} runs", flush=True)
    times = tower_times(model, squares(model, pictures).split(args.batch), args.runs)
    for precision, own in times.items():
        print(f"{precision}  {own.least:8.1f} ms an image at least, {own.median:8.1f} median")
    ratio = times["fp32"].median / times["bf16"].median
    print(f"bf16 is {ratio:.2f} times as fast as fp32 (median)", flush=True)
    agree = agreement(model, pictures, labels, settings)
    print(f"labels agree on {sum(agree) / len(agree):.3%} of the pixels, on {min(agree):.3%} of the worst image")
    return 0


def describe(model: PACL, name: str) -> None:
    """Print what is measured and on what."""
    import torch

    from pacl.models.precision import has_bf16, resolve_precision

    if model.device.type == "cuda":
        device = torch.cuda.get_device_name(model.device)
    else:
        threads = torch.get_num_threads()
        device = f"{platform.processor() or platform.machine()}, {threads} thread{'s' * (threads > 1)}"
    able = "has" if has_bf16(model.device.type) else "has no"
    print(f"{name}, dense {model.config.dense}, torch {torch.__version__}")
    print(f"{model.device} ({device}) {able} bf16 arithmetic; auto is {resolve_precision('auto', model.clip)}")


def squares(model: PACL, pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures as the model's own preprocessing makes them: normalised [I, 3, S, S] on its device."""
    import torch
    from PIL import Image

    from eval.classification.features import preprocessing

    transform = preprocessing(model)
    return torch.stack([transform(Image.fromarray(picture)) for picture in pictures]).to(model.device)


@dataclass(frozen=True)
class Times:
    """Milliseconds an image: the least, and the median over all runs of all batches."""

    least: float
    median: float


def tower_times(model: PACL, batches: Sequence[Tensor], runs: int) -> dict[str, Times]:
    """Times of the image tower in each precision of `CHOICES`.

    Args:
        model: whose tower it is.
        batches: normalised [B, 3, S, S] each.
        runs: times that every batch is timed in each precision, in turns.
    """
    import torch

    found: dict[str, list[float]] = {precision: [] for precision in CHOICES}
    with torch.inference_mode():
        for precision in found:
            seconds(model.clip, batches[0], model.config.dense, precision)  # untimed: the first call pays for set-up
        for _ in range(runs):
            for batch in batches:
                for precision, own in found.items():
                    own.append(1e3 * seconds(model.clip, batch, model.config.dense, precision) / len(batch))
    return {precision: Times(min(own), float(torch.tensor(own).quantile(0.5))) for precision, own in found.items()}


def seconds(clip: Backbone, images: Tensor, dense: str, precision: str) -> float:
    """Of one pass through the image tower."""
    from pacl.models.precision import tower_autocast

    wait(clip.device)
    start = time.perf_counter()
    with tower_autocast(precision, clip):
        clip.patch_tokens(images, dense)
    wait(clip.device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def agreement(
    model: PACL, pictures: Sequence[np.ndarray], labels: Sequence[Label], settings: SegmenterSettings
) -> list[float]:
    """For each picture the share of its pixels, in [0, 1], whose label is the same in each precision of `CHOICES`."""
    from pacl.segmentation.segmenter import Segmenter

    segmenters = [Segmenter(model, replace(settings, precision=precision)) for precision in CHOICES]
    shares = []
    for first in range(0, len(pictures), settings.window_batch):
        part = pictures[first : first + settings.window_batch]
        exact, rounded = (segmenter.predict_batch(part, labels) for segmenter in segmenters)
        shares += [float((a.index == b.index).mean()) for a, b in zip(exact, rounded, strict=True)]
    return shares


if __name__ == "__main__":
    run_verb("eval.speed.precision", main)
