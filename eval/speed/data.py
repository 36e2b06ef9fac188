"""How many pictures a second one core makes ready: ``python -m eval.speed.data SOURCE [--size 224]``.

SOURCE is what `data.train` takes: a table, COCO's JSON, a folder by class or shards. The files are read before, and
processor time is what counts: neither the disk nor what else runs on the machine changes much. A line each for decoding
in full, for decoding a JPEG at a half, a quarter or an eighth of its size where that keeps ``size`` pixels, and for
cutting squares in these ways.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch

from pacl.cli.messages import run_verb
from pacl.data.photos import Cut
from pacl.data.sources import Source
from pacl.data.tars import samples
from pacl.errors import UserError
from pacl.images import decode_image

Read = Callable[..., np.ndarray]  # decodes one picture; takes short_side


def pictures(source: Source, count: int) -> list[tuple[str, bytes]]:
    """Names and files of the first pictures of a source."""
    if source.kind == "shards":
        return [(sample.name, sample.image) for sample in islice(samples(source.pairs), count)]
    pairs = source.read()
    names = [pairs.name(index) for index in range(min(count, len(pairs)))]
    return [(name, Path(name).read_bytes()) for name in names]


def rate(make: Callable[[Read], np.ndarray], reads: Sequence[Read], seconds: float) -> float:
    """Pictures a second of processor time, over whole passes that take ``seconds`` at least."""
    start, passes = time.process_time(), 0
    while (passed := time.process_time() - start) < seconds or not passes:
        for read in reads:
            make(read)
        passes += 1
    return passes * len(reads) / passed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--size", type=int, default=224, help="side of the squares")
    parser.add_argument("--images", help="folder of a table's pictures")
    parser.add_argument("--count", type=int, default=200, help="pictures to take")
    parser.add_argument("--seconds", type=float, default=5, help="time for each line")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    files = pictures(Source(args.source, args.images), args.count)
    reads, sizes = [], []
    for name, content in files:
        try:
            sizes.append(decode_image(content, name).shape[:2])
        except UserError:
            continue
        reads.append(partial(decode_image, content, name))
    if not reads:
        raise UserError(f"{args.source}: none of its first {args.count} pictures can be read")
    height, width = np.median(sizes, axis=0).astype(int)
    print(f"{len(reads)} pictures, {width} x {height} in the middle, for squares of {args.size}; images/s per core")
    cut = Cut("random")
    ways: dict[str, Callable[[Read], np.ndarray]] = {
        "decode in full": lambda read: read(short_side=None),
        "decode reduced": lambda read: read(short_side=args.size),
        "random cut, in full": lambda read: cut.square(lambda _: read(short_side=None), args.size, Random(0)),
        "random cut, reduced": lambda read: cut.square(lambda side: read(short_side=side), args.size, Random(0)),
        "centre, reduced": lambda read: Cut().square(lambda side: read(short_side=side), args.size, Random(0)),
    }
    for make in ways.values():
        make(reads[0])  # untimed: the first calls pay for the growth of memory
    for name, make in ways.items():
        print(f"{name:<20} {rate(make, reads, args.seconds):8.0f}", flush=True)
    return 0


if __name__ == "__main__":
    run_verb("eval.speed.data", main)
