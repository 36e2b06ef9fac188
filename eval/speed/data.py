"""Images per second that one CPU core decodes and crops for training.

    python -m eval.speed.data captions.csv --images photos
    python -m eval.speed.data "shards/{00000..00099}.tar" --size 336

SOURCE is a data source as in the setting ``data.train``: a table, COCO's JSON, a folder by class or shards.

The command prints one line per operation: decoding JPEGs at full size, decoding them at a half, a quarter or an eighth
of their size (as long as the shorter side keeps ``--size`` pixels), and several ways of cropping squares. Files are
read in advance and CPU time is measured, so neither the disk nor other processes have much influence.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch

from eval.common.command import check_least, new_parser
from pacl.cli.messages import run_verb
from pacl.data.crop import SquareCrop
from pacl.data.shards import samples
from pacl.data.sources import Source
from pacl.errors import UserError
from pacl.images import decode_image

Decode = Callable[..., np.ndarray]  # decodes one image; the keyword short_side allows a reduced size


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.data", __doc__)
    parser.add_argument("source", metavar="SOURCE", help="table, COCO JSON, folder by class or shards")
    parser.add_argument(
        "--size", type=int, default=224, metavar="N", help="side of the squares in pixels (default: 224)"
    )
    parser.add_argument("--images", metavar="DIR", help="folder of a table's images")
    parser.add_argument(
        "--limit", type=int, default=200, metavar="N", help="use only the first N images (default: 200)"
    )
    parser.add_argument(
        "--seconds", type=float, default=5, metavar="X", help="duration of each measurement in seconds (default: 5)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read the images, measure each operation and print its speed."""
    args = build_parser().parse_args(argv)
    check_least(args, size=1, limit=1)
    torch.set_num_threads(1)
    decoders, sizes = [], []
    for name, content in read_files(Source(args.source, args.images), args.limit):
        with suppress(UserError):
            sizes.append(decode_image(content, name).shape[:2])
            decoders.append(partial(decode_image, content, name))
    if not decoders:
        raise UserError(f"{args.source}: none of the first {args.limit} images can be read")
    height, width = np.median(sizes, axis=0).astype(int)
    print(f"{len(decoders)} images, median {width} x {height}, for squares of {args.size}; images/s per core")
    crop = SquareCrop("random")
    ways: dict[str, Callable[[Decode], np.ndarray]] = {
        "decode in full": lambda decode: decode(short_side=None),
        "decode reduced": lambda decode: decode(short_side=args.size),
        "random crop, in full": lambda decode: crop.square(lambda _: decode(short_side=None), args.size, Random(0)),
        "random crop, reduced": lambda decode: crop.square(lambda side: decode(short_side=side), args.size, Random(0)),
        "centre crop, reduced": lambda decode: SquareCrop().square(
            lambda side: decode(short_side=side), args.size, Random(0)
        ),
    }
    for make in ways.values():
        make(decoders[0])  # untimed: the first calls allocate memory
    for name, make in ways.items():
        print(f"{name:<21} {rate(make, decoders, args.seconds):8.0f}", flush=True)
    return 0


def read_files(source: Source, count: int) -> list[tuple[str, bytes]]:
    """Names and contents of the first ``count`` image files of a source."""
    if source.kind == "shards":
        return [(sample.name, sample.image) for sample in islice(samples(source.pairs), count)]
    pairs = source.read()
    names = [pairs.name(index) for index in range(min(count, len(pairs)))]
    return [(name, Path(name).read_bytes()) for name in names]


def rate(make: Callable[[Decode], np.ndarray], decoders: Sequence[Decode], seconds: float) -> float:
    """Images per second of CPU time, measured over as many passes through all images as take at least ``seconds``."""
    start, passes = time.process_time(), 0
    while (passed := time.process_time() - start) < seconds or not passes:
        for decode in decoders:
            make(decode)
        passes += 1
    return passes * len(decoders) / passed


if __name__ == "__main__":
    run_verb("eval.speed.data", main)
