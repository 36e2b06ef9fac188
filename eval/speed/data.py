"""Images a second that one CPU core decodes and crops for training.

    python -m eval.speed.data captions.csv --images photos
    python -m eval.speed.data "shards/{00000..00099}.tar" --size 336

SOURCE is what `data.train` takes: a table, COCO's JSON, a folder by class or shards. Files are read in advance and
processor time is measured, so that neither the disk nor other processes change the result much. A line each for
decoding JPEGs in full, for decoding at a half, a quarter or an eighth of their size where that keeps ``size`` pixels,
and for each way of cropping squares.
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

Decode = Callable[..., np.ndarray]  # decodes one image; takes short_side


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = new_parser("eval.speed.data", __doc__)
    parser.add_argument("source", metavar="SOURCE", help="table, COCO JSON, folder by class or shards")
    parser.add_argument("--size", type=int, default=224, metavar="N", help="side of the squares (default: 224)")
    parser.add_argument("--images", metavar="DIR", help="folder of a table's images")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="the first N images only (default: 200)")
    parser.add_argument("--seconds", type=float, default=5, metavar="X", help="time of each line (default: 5)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read, measure, print."""
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
    cut = SquareCrop("random")
    ways: dict[str, Callable[[Decode], np.ndarray]] = {
        "decode in full": lambda decode: decode(short_side=None),
        "decode reduced": lambda decode: decode(short_side=args.size),
        "random cut, in full": lambda decode: cut.square(lambda _: decode(short_side=None), args.size, Random(0)),
        "random cut, reduced": lambda decode: cut.square(lambda side: decode(short_side=side), args.size, Random(0)),
        "centre, reduced": lambda decode: SquareCrop().square(
            lambda side: decode(short_side=side), args.size, Random(0)
        ),
    }
    for make in ways.values():
        make(decoders[0])  # untimed: the first calls allocate memory
    for name, make in ways.items():
        print(f"{name:<20} {rate(make, decoders, args.seconds):8.0f}", flush=True)
    return 0


def read_files(source: Source, count: int) -> list[tuple[str, bytes]]:
    """Names and contents of the first image files of a source."""
    if source.kind == "shards":
        return [(sample.name, sample.image) for sample in islice(samples(source.pairs), count)]
    pairs = source.read()
    names = [pairs.name(index) for index in range(min(count, len(pairs)))]
    return [(name, Path(name).read_bytes()) for name in names]


def rate(make: Callable[[Decode], np.ndarray], decoders: Sequence[Decode], seconds: float) -> float:
    """Images a second of processor time, over whole passes of at least ``seconds``."""
    start, passes = time.process_time(), 0
    while (passed := time.process_time() - start) < seconds or not passes:
        for decode in decoders:
            make(decode)
        passes += 1
    return passes * len(decoders) / passed


if __name__ == "__main__":
    run_verb("eval.speed.data", main)
