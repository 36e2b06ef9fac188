"""Images, and the content of their files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 250 // width, y * 250 // height, (x + y) * 250 // (height + width)], -1).astype(np.uint8)


def encoded(image: np.ndarray, kind: str = "JPEG", **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **settings)
    return file.getvalue()
