"""CPU time in which one core decodes and crops an image for training.

Files are read in advance and CPU time is measured, so neither the disk nor other processes have much influence.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from eval.speed.measure import Options, Row, Way, compare
from eval.speed.segment import photo
from pacl.data.crop import SquareCrop
from pacl.data.shards import samples
from pacl.data.sources import Source
from pacl.errors import UserError
from pacl.images import decode_image
from pacl.printing import counted

Decode = Callable[..., np.ndarray]  # decodes one image; the keyword short_side allows a reduced size

SIZE = 224  # side of the squares in pixels
LIMIT = 200  # images of a source


def rows(options: Options) -> list[Row]:
    """Decoding at full and at reduced size (a half, a quarter or an eighth, not below the squares), and crops.

    Raises:
        UserError: no image of the source can be read.
    """
    limit = 2 if options.quick else LIMIT
    if options.source is None:
        files = [("the demo photo", jpeg(853, 1280))]
    else:
        files = read_files(Source(options.source, options.images), limit)
    decoders, sizes = [], []
    for name, content in files:
        with suppress(UserError):
            sizes.append(decode_image(content, name).shape[:2])
            decoders.append(partial(decode_image, content, name))
    if not decoders:
        raise UserError(f"{options.source}: none of the first {limit} images can be read")
    height, width = np.median(sizes, axis=0).astype(int)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        case = f"{counted(len(decoders), 'image')}, median {width} x {height}, squares of {SIZE}"
        cpu = Options(torch.device("cpu"), options.runs)
        return compare("data", case, ways(decoders), cpu, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)


def ways(decoders: Sequence[Decode]) -> list[Way]:
    """Two ways to decode, and crops, whose limit is the decoding that they need."""
    crop, centre = SquareCrop("random"), SquareCrop()

    def each(make: Callable[[Decode], np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            for decode in decoders:
                make(decode)

        return run

    count = len(decoders)
    full = Way("decode in full", each(lambda decode: decode(short_side=None)), "uint8", items=count)
    reduced = Way("decode reduced", each(lambda decode: decode(short_side=SIZE)), "uint8", full, items=count)
    makers: dict[str, tuple[Callable[[Decode], np.ndarray], Way]] = {
        "random crop, in full": (lambda d: crop.square(lambda _: d(short_side=None), SIZE, Random(0)), full),
        "random crop, reduced": (lambda d: crop.square(lambda side: d(short_side=side), SIZE, Random(0)), reduced),
        "centre crop, reduced": (lambda d: centre.square(lambda side: d(short_side=side), SIZE, Random(0)), reduced),
    }
    crops = [Way(name, each(make), "uint8", full, limit, count) for name, (make, limit) in makers.items()]
    return [full, reduced, *crops]


def jpeg(height: int, width: int) -> bytes:
    """The demo photo as a JPEG of another size."""
    file = io.BytesIO()
    Image.fromarray(photo(height, width)).save(file, "JPEG", quality=90)
    return file.getvalue()


def read_files(source: Source, count: int) -> list[tuple[str, bytes]]:
    """Names and contents of the first ``count`` image files of a source."""
    if source.kind == "shards":
        return [(sample.name, sample.image) for sample in islice(samples(source.pairs), count)]
    pairs = source.read()
    names = [pairs.name(index) for index in range(min(count, len(pairs)))]
    return [(name, Path(name).read_bytes()) for name in names]
