"""Polygons and the pixels that they cover."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
SUPERSAMPLE = 4


def polygon(*points: tuple[float, float]) -> Points:
    """Corners (x, y) of a polygon as float32 [n, 2]."""
    return np.array(points, np.float32)


def fill(polygons: list[Points], box: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each pixel that a union of polygons covers, float32 [h, w] in [0, 1]; ``box`` is (h, w)."""
    h, w = box
    fine = np.zeros((h * SUPERSAMPLE, w * SUPERSAMPLE), np.uint8)
    for points in polygons:
        # cv2 measures from pixel centres, here in units of 1/16 pixel
        fixed = np.rint((points * SUPERSAMPLE - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(fine, [fixed], 255, shift=4)
    return cv2.resize(fine, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)
