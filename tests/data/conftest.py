"""Small images and their captions, for the tests of readers."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw(tmp_path):
    """Write small images, by their paths from the test's folder, each of one grey value."""

    def draw(*names):
        for value, name in enumerate(names, 1):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path)

    return draw


@pytest.fixture
def write(tmp_path):
    """Write files, by their paths from the test's folder."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def captions(pairs):
    """The captions of each image, by its path from the root."""
    return {pairs.paths[i]: [caption for caption, _ in pairs.descriptions(i)] for i in range(len(pairs))}
