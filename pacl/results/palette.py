"""The colour of each label, and masks as palette PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from pacl.files import atomic_write
from pacl.images import png_text

# Neighbours in the list differ in lightness as well as in hue, for colour-blind readers.
_COLOURS = (
    *("2f7de1", "ff9f1c", "e0325b", "2ec4a0", "6b2fb3", "d6dc3a", "ff9ccb", "66cdf7", "7a4320", "1e6b46"),
    *("ff6f59", "b7a8f5", "f2c230", "3a3ab8", "d63fb8", "f7cfae", "8fe07a", "7292ad", "8a1f4d", "b5ebe4"),
)
_OKLAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def palette(count: int) -> np.ndarray:
    """Colours of label ids 0..count, uint8 [count + 1, 3]: 0 is black; the others do not depend on ``count``.

    The first twenty are a fixed list. The others go round the hue circle of OKLCH (Ottosson 2020) in steps of the
    golden angle, at three lightnesses in turn.
    """
    listed = np.array([[0, 0, 0], *(tuple(bytes.fromhex(colour)) for colour in _COLOURS)], np.uint8)
    if count < len(listed):
        return listed[: count + 1]
    n = np.arange(count + 1 - len(listed))
    lightness = np.array([0.72, 0.55, 0.84])[n % 3] - 0.03 * (n // 60 % 4)  # hues nearly repeat: lightness differs
    chroma = np.array([0.13, 0.15, 0.1])[n % 3]
    hue = n * math.pi * (3 - math.sqrt(5))
    lms = (_OKLAB_TO_LMS @ np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])) ** 3
    linear = np.clip(_LMS_TO_LINEAR_RGB @ lms, 0, 1).T
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.concatenate([listed, np.rint(srgb * 255).astype(np.uint8)])


def save_mask(path: str | Path, index: np.ndarray, colours: np.ndarray | None = None) -> None:
    """Write label ids [H, W] as an 8-bit palette PNG, or above 255 as 16-bit greyscale.

    Args:
        path: of the file.
        index: ids, 0 or more.
        colours: of the ids, uint8 [256, 3]; None: those of `palette`.

    Raises:
        UserError: the file cannot be written.
    """
    if index.max(initial=0) <= 255:
        mask = Image.fromarray(index.astype(np.uint8))
        mask.putpalette((palette(255) if colours is None else colours).tobytes())  # changes the mode to palette
    else:
        mask = Image.fromarray(index.astype(np.uint16))
    with atomic_write(path) as temporary:
        mask.save(temporary, format="PNG", pnginfo=png_text())
