"""Cropping and augmentation: an image of any size becomes the square that the image tower takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal, get_args

import numpy as np

from pacl.errors import ArgumentError
from pacl.images import resize
from pacl.json_values import use_python_numbers

CropMode = Literal["random", "centre", "pad", "squash"]


@dataclass(frozen=True)
class SquareCrop:
    """How an image is cropped and resized to a square.

    Attributes:
        mode: "random": a random crop with a random aspect ratio (GoogLeNet's augmentation, as in CLIP's training);
            "centre": the central square, as in CLIP's own preprocessing; "pad": the whole image, padded with grey;
            "squash": the whole image, without keeping its aspect ratio.
        area: smallest and largest area of a random crop, as a share of the image.
        aspect: smallest and largest width / height of a random crop.
        flip: probability of a horizontal flip; captions that mention left or right then become wrong.
        colour: strength of the colour jitter: brightness, contrast and saturation each change by a random factor
            between 1 - colour and 1 + colour; 0 disables it.
    """

    mode: CropMode = "centre"
    area: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        use_python_numbers(self)  # checkpoints and model cards state them

    def check(self) -> None:
        """Check the values.

        Raises:
            ArgumentError: a value is out of range.
        """
        for name, valid, reason in (
            ("mode", self.mode in get_args(CropMode), f"must be one of {', '.join(get_args(CropMode))}"),
            (
                "area",
                0 < self.area[0] <= self.area[1] <= 1,
                "must be two shares of the image's area, the smaller first",
            ),
            (
                "aspect",
                0 < self.aspect[0] <= self.aspect[1],
                "must be two ratios of width to height, the smaller first",
            ),
            ("flip", 0 <= self.flip <= 1, "must be a probability, from 0 to 1"),
            ("colour", 0 <= self.colour < 1, "must be at least 0 and below 1"),
        ):
            if not valid:
                raise ArgumentError(name, getattr(self, name), reason)

    def acting(self) -> dict[str, Any]:
        """The settings that act, by name: area and aspect are those of random crops."""
        unused = () if self.mode == "random" else ("area", "aspect")
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @property
    def is_random(self) -> bool:
        """Whether the result differs from time to time, so that tokens cannot be cached."""
        return self.mode == "random" or self.flip > 0 or self.colour > 0

    def square(self, read: Callable[[int], np.ndarray], size: int, rng: Random) -> np.ndarray:
        """Read an image and crop it.

        Args:
            read: reads the image; its argument is the number of pixels that the shorter side needs, so that a large
                JPEG may be decoded at a reduced size.
            size: side of the square.
            rng: random generator for everything random.

        Returns:
            uint8 [size, size, 3].
        """
        # A random crop is enlarged: decode enough pixels for the smallest one if it is square.
        image = read(math.ceil(size / math.sqrt(self.area[0])) if self.mode == "random" else size)
        image = self._crop(image, size, rng)
        if rng.random() < self.flip:
            image = np.ascontiguousarray(image[:, ::-1])
        return _jitter(image, self.colour, rng) if self.colour else image

    def _crop(self, image: np.ndarray, size: int, rng: Random) -> np.ndarray:
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
            crop_h = crop_w = min(h, w)
            y, x = (h - crop_h) // 2, (w - crop_w) // 2
        else:
            area = rng.uniform(*self.area) * h * w
            # Only aspect ratios at which a crop of this area fits into the image. If none of the allowed ones does,
            # the crop has the nearest one and is as large as possible: a panorama is never squashed.
            fitting = (min(max(limit, self.aspect[0]), self.aspect[1]) for limit in (area / h**2, w**2 / area))
            aspect = math.exp(rng.uniform(*map(math.log, fitting)))
            crop_w = min(w, max(1, round(min(math.sqrt(area * aspect), h * aspect))))
            crop_h = min(h, max(1, round(min(math.sqrt(area / aspect), w / aspect))))
            y, x = rng.randint(0, h - crop_h), rng.randint(0, w - crop_w)
        return resize(image[y : y + crop_h, x : x + crop_w], (size, size))


def _jitter(image: np.ndarray, strength: float, rng: Random) -> np.ndarray:
    """Random brightness, contrast (about the mean) and saturation (about the grey value) of uint8 [H, W, 3]."""
    brightness, contrast, saturation = (rng.uniform(1 - strength, 1 + strength) for _ in range(3))
    values = image.astype(np.float32) * brightness
    values = values.mean() + contrast * (values - values.mean())
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
    values = grey[..., None] + saturation * (values - grey[..., None])
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
