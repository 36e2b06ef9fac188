"""Pictures that several tests of image-level benchmarks share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}


@pytest.fixture
def colour_photos(tmp_path: Path) -> Path:
    """Nearly plain colours: 12 of each to train on, 4 of each to test on."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name, colour in COLOURS.items():
            for i in range(count):
                path = tmp_path / "photos" / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.array(colour) + rng.integers(-25, 26, (36, 44, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path / "photos"
