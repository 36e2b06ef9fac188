"""Small shards of drawn images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(number: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_shards(folder: Path, shards: int, images: int) -> Path:
    """``shards`` tars of ``images`` images each; returns the folder."""
    folder.mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for i in range(images):
                content = png(shard * images + i)
                info = tarfile.TarInfo(f"{i:03d}.png")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder
