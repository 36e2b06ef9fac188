"""Images of a folder, and those of its index."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from pacl.index.image_index import Index
from tests.colours import noise


def save(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = noise(40, 56) // 2 + rng.integers(0, 128, (40, 56, 3)).astype(np.uint8)
    Image.fromarray(pixels * np.array(rng.integers(0, 2, 3), dtype=np.uint8)).save(path)


def names(index: Index) -> list[str]:
    return [os.fsdecode(path) for path in index.vectors.paths]
