"""An image that tests of image files share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth [40, 60, 3] picture whose four corners differ."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)
