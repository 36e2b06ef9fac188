"""A folder with a table of images and captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.caption_data.fitting import COUNT


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a table of 14 even images, each of its own grey and with two captions."""
    monkeypatch.chdir(tmp_path)
    for n in range(COUNT):
        Image.fromarray(np.full((10, 12, 3), 10 * n, np.uint8)).save(f"{n}.png")
    rows = [f"{n}.png,image {n} has a word{c}" for n in range(COUNT) for c in range(2)]
    Path("t.csv").write_text("\n".join(["image,caption", *rows]))
    return tmp_path
