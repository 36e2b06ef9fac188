"""Score masks that are there already, of any program, by the rules of a segmentation benchmark.

    python -m eval.segmentation.compare custom --predictions out/mmseg/ann_dir --images DIR --masks DIR --classes FILE
    python -m eval.segmentation.compare voc20 --data ROOT --predictions DIR
    python -m eval.segmentation.compare voc20 --data ROOT --predictions DIR --prediction_ending .mask.png

The prediction of the image x/y.jpg is the index PNG x/y.png below --predictions. Its values are class indices, from
--prediction_offset for the first class; lower ones and 255 are pixels without a class, which are wrong wherever the
benchmark has one. Areas are summed over all images; mIoU is the mean of the classes' IoU. With --partial, images
without a mask or without a prediction are left out, and counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eval.common.command import check_least, new_parser
from eval.common.tables import terminal_table
from eval.segmentation.arguments import add_data, find_benchmark
from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.cli.messages import need_output, run_verb
from pacl.data.masks import IGNORED, MaskFolder, check_size
from pacl.errors import ArgumentError, UserError
from pacl.metrics.segmentation import count_areas, iou, scores
from pacl.printing import counted

NO_CLASS = 255
"""Mask value of pixels without a class in predictions."""


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.segmentation.compare", __doc__)
    parser.add_argument("benchmark", metavar="BENCHMARK", help=", ".join((*BENCHMARKS, CUSTOM)))
    parser.add_argument("--predictions", metavar="DIR", required=True, help="folder of the masks to score, index PNGs")
    parser.add_argument(
        "--prediction_offset", metavar="N", type=int, default=0, help="their value of the first class (default: 0)"
    )
    parser.add_argument(
        "--prediction_ending", metavar="TEXT", default=".png",
        help="replaces the suffix of an image in the name of its prediction (default: .png)",
    )  # fmt: skip
    add_data(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read the masks and print their scores."""
    from rich.console import Console

    args = build_parser().parse_args(argv)
    need_output()
    check_least(args, prediction_offset=0)
    if args.prediction_offset >= 2**16:
        raise ArgumentError("prediction_offset", args.prediction_offset, "mask values are from 0 to 65535")
    truth = find_benchmark(args.benchmark, args).open(args.data, args.split, partial=args.partial)
    areas, images = compare(truth, args.predictions, args.prediction_offset, args.prediction_ending)
    rows = [[label.name, f"{100 * value:.2f}"] for label, value in zip(truth.labels, iou(areas), strict=True)]
    table = terminal_table(["class", "IoU"], rows, right={1})
    console = Console(highlight=False)
    console.print(table)
    values = {name: f"{100 * float(value):.2f}" for name, value in scores(areas).items()}
    if left_out := len(truth.listed) - images:
        console.print(f"{counted(left_out, 'image')} left out: without a mask or a prediction", markup=False)
    console.print(
        f"{counted(images, 'image')}: mIoU {values['miou']}, pixel accuracy {values['pixel_accuracy']}, "
        f"mean accuracy {values['mean_accuracy']}",
        markup=False,
    )
    return 0


def compare(truth: MaskFolder, predictions: str, offset: int = 0, ending: str = ".png") -> tuple[np.ndarray, int]:
    """Areas of predicted masks, int64 [3, C], see `pacl.metrics.segmentation`, and the number of images they are of.

    Args:
        truth: images, their masks and the C classes. If it is partial, images without a prediction are left out, too.
        predictions: folder with a mask of each image.
        offset: value of the first class in predictions.
        ending: what replaces the suffix of an image in the name of its prediction.

    Raises:
        ArgumentError: ``prediction_ending``: the predictions have other names.
        UserError: a prediction is missing (of a partial truth: all are), has a value that is no class, or has not the
            size of the mask; or in none of them, or of the masks of the truth, a pixel has a class.
    """
    ignore = (*range(offset), NO_CLASS)
    predicted = replace(
        truth, masks=predictions, offset=offset, ignore=ignore, mask_ending=ending, palette=None,
        limit=None if truth.partial else truth.limit,  # it would choose among the images that have a prediction
    )  # fmt: skip
    classes = len(truth.labels)
    areas, empty = np.zeros((3, classes), np.int64), True
    expected = truth.files
    try:
        found = {name: file for name, _, file in predicted.files}
    except ArgumentError as error:
        if error.argument != "mask_ending":
            raise
        raise ArgumentError("prediction_ending", ending, error.reason) from None
    pairs = [(*item, found[item[0]]) for item in expected if item[0] in found]
    if not pairs:
        raise UserError(f"{predictions} has no prediction of an image that has a mask in {truth.masks}")
    for name, image, file, other in pairs:
        target, mask = truth.read(name, image, file).mask, predicted.read(name, image, other).mask
        check_size(other, mask.shape, target.shape)
        mask = np.where(mask == IGNORED, classes, mask)  # a class of its own, which no pixel has
        areas += count_areas(mask, target, classes + 1)[:, :classes]
        empty = empty and (mask == classes).all()
    if not areas[2].any():
        raise UserError(f"{truth.masks}: no mask has a scored pixel: all values are ignored")
    if empty:
        reason = f"in the masks of {predictions} no pixel has a class: all values are {NO_CLASS} or below this"
        raise ArgumentError("prediction_offset", offset, reason)
    return areas, len(pairs)


if __name__ == "__main__":
    run_verb("eval.segmentation.compare", main)
