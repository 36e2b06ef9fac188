"""One prompt alone: is a thing found that is there, and nothing where it is not?

    python -m eval.single_prompt [--model bundled] [--split val] [--scenes 100] [--margins 0 0.05 0.1]

Each prompt, such as "a red fish", is asked for by itself and competes with the words that the model carries. For every
margin that these must be ahead by (`contrast_margin` of a head) it prints the IoU of things that are in the scene, how
many of them reach 0.5, and the share of pixels that a thing gets which is not there.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from random import Random

import numpy as np

from pacl.data.scene_captions import OBJECT_NAMES
from pacl.data.scenes import scene
from pacl.errors import UserError, run_verb
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.segmenter import Segmenter


def measure(
    model: PACL, margins: Sequence[float], split: str, pairs: str, count: int
) -> dict[float, tuple[list[float], list[float]]]:
    """For each margin: the IoU of every object asked for alone, and the pixel share of one absent thing a scene."""
    found: dict[float, tuple[list[float], list[float]]] = {margin: ([], []) for margin in margins}
    config, segmenter, rng = model.config, Segmenter(model), Random(0)
    for index in range(count):
        drawn = scene(split, index, size=(192, 256), pairs=pairs)
        segmenter.set_image(drawn.image)
        there = [thing.name for thing in drawn.things]
        absent = rng.choice([name for name in OBJECT_NAMES if name not in there])
        for margin, (ious, shares) in found.items():
            model.config = dataclasses.replace(config, contrast_margin=margin)
            for name in there:
                truth = drawn.mask == drawn.names.index(name)
                mask = segmenter.predict([name]).mask(name)
                ious.append(float(np.logical_and(mask, truth).sum() / np.logical_or(mask, truth).sum()))
            shares.append(segmenter.predict([absent]).shares[0])
    model.config = config
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.single_prompt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="bundled", help="head to measure (default bundled)")
    parser.add_argument("--split", default="val", choices=("val", "test"), help="margins are chosen on val (default)")
    parser.add_argument("--scenes", type=int, default=100, help="of each kind (default 100)")
    parser.add_argument("--margins", type=float, nargs="+", help="cosines to try (default: the head's own)")
    args = parser.parse_args(argv)
    if args.scenes < 1:
        raise UserError(f"--scenes {args.scenes}: at least 1")
    model = load_model(args.model)
    margins = args.margins or [model.config.contrast_margin]
    print("pairs     margin   IoU there   IoU >= 0.5   share absent   absent > 2 %")
    for pairs, name in (("seen", "seen"), ("held_out", "new")):
        for margin, (ious, shares) in measure(model, margins, args.split, pairs, args.scenes).items():
            reach = statistics.mean(iou >= 0.5 for iou in ious)
            beyond = statistics.mean(share > 0.02 for share in shares)
            print(
                f"{name:<8} {margin:7.2f}   {statistics.mean(ious):9.3f}   {reach:10.0%}"
                f"   {statistics.mean(shares):12.2%}   {beyond:12.0%}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    run_verb("single_prompt", main)
