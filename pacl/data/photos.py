"""One picture, cut and resized to the square that the image tower takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np

from pacl.errors import UserError
from pacl.images import resize


@dataclass(frozen=True)
class Cut:
    """How a picture becomes a square.

    Attributes:
        mode: "random": a random part at a random aspect ratio (GoogLeNet's augmentation, as in CLIP's training);
            "centre": the middle square, as CLIP's own preprocessing cuts it; "pad": the whole picture with grey
            beside it, as nothing of it may be lost; "squash": the whole picture, out of shape.
        area: smallest and largest part of the picture's area that "random" takes.
        aspect: smallest and largest width by height of that part.
        flip: chance of mirroring left and right; captions that name sides then become wrong.
        colour: strength of random changes of brightness, contrast and saturation, each by a factor of up to
            1 +- colour; 0 for none.
    """

    mode: Literal["random", "centre", "pad", "squash"] = "centre"
    area: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    colour: float = 0.0

    def check(self) -> None:
        """Raise a `UserError` for values that make no sense."""
        if self.mode not in (modes := ("random", "centre", "pad", "squash")):
            raise UserError(f"--data.cut.mode {self.mode}: one of {', '.join(modes)}")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f"--data.cut.area {self.area}: two shares of the picture's area, the smaller one first")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f"--data.cut.aspect {self.aspect}: two ratios of width to height, the smaller one first")
        if not 0 <= self.flip <= 1 or not 0 <= self.colour < 1:
            raise UserError(f"--data.cut.flip {self.flip}, colour {self.colour}: from 0 to 1")

    @property
    def is_random(self) -> bool:
        """Whether a picture comes out differently every time, so that its tokens cannot be kept."""
        return self.mode == "random" or self.flip > 0 or self.colour > 0

    def square(self, read: Callable[[int], np.ndarray], size: int, rng: Random) -> np.ndarray:
        """Read a picture and cut it.

        Args:
            read: reads it, with at least so many pixels on its shorter side if it has them.
            size: side of the square.
            rng: what is random follows it alone.

        Returns:
            uint8 [size, size, 3].
        """
        # A random part is enlarged: decode enough pixels for the smallest square one.
        image = read(math.ceil(size / math.sqrt(self.area[0])) if self.mode == "random" else size)
        image = self._cut(image, size, rng)
        if rng.random() < self.flip:
            image = np.ascontiguousarray(image[:, ::-1])
        return _recolour(image, self.colour, rng) if self.colour else image

    def _cut(self, image: np.ndarray, size: int, rng: Random) -> np.ndarray:
        h, w = image.shape[:2]
        if self.mode == "squash":
            return resize(image, (size, size))
        if self.mode == "pad":
            scale = size / max(h, w)
            inner = resize(image, (max(1, round(h * scale)), max(1, round(w * scale))))
            square = np.full((size, size, 3), 128, np.uint8)
            y, x = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
            square[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
            return square
        if self.mode == "centre":
            part_h = part_w = min(h, w)
            y, x = (h - part_h) // 2, (w - part_w) // 2
        else:
            area = rng.uniform(*self.area) * h * w
            # Of the aspect ratios those at which so much area fits into the picture; if none is allowed, the part
            # is as large as it can be at the nearest one: a panorama is not squashed.
            fitting = (min(max(limit, self.aspect[0]), self.aspect[1]) for limit in (area / h**2, w**2 / area))
            aspect = math.exp(rng.uniform(*map(math.log, fitting)))
            part_w = min(w, max(1, round(min(math.sqrt(area * aspect), h * aspect))))
            part_h = min(h, max(1, round(min(math.sqrt(area / aspect), w / aspect))))
            y, x = rng.randint(0, h - part_h), rng.randint(0, w - part_w)
        return resize(image[y : y + part_h, x : x + part_w], (size, size))


def _recolour(image: np.ndarray, strength: float, rng: Random) -> np.ndarray:
    """Random brightness, contrast (about the mean) and saturation (about the grey value) of uint8 [H, W, 3]."""
    brightness, contrast, saturation = (rng.uniform(1 - strength, 1 + strength) for _ in range(3))
    values = image.astype(np.float32) * brightness
    values = values.mean() + contrast * (values - values.mean())
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
    values = grey[..., None] + saturation * (values - grey[..., None])
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
