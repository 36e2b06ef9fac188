"""What the results of an image are drawn and written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Result(Protocol):
    """The labels of one image; `pacl.segmentation.result.Segmentation` is one."""

    @property
    def labels(self) -> Sequence[str]:
        """Names, C of them."""

    @property
    def prompts(self) -> Sequence[Sequence[str]]:
        """The prompts of each label."""

    @property
    def index(self) -> np.ndarray:
        """Label ids [H, W]: 0 is background, i + 1 is ``labels[i]``."""

    @property
    def shares(self) -> Sequence[float]:
        """Share of the pixels that each label won."""

    @property
    def scores(self) -> Sequence[float]:
        """Mean probability of each label over the pixels it won."""

    @property
    def background(self) -> str:
        """The background rule."""

    @property
    def settings(self) -> Any:
        """The settings, a dataclass."""

    @property
    def contents(self) -> Mapping[str, Any]:
        """What settings that are files or folders held, for the record."""

    def score_map(self, label: str) -> np.ndarray:
        """float32 [H, W]: cosine of every pixel with a label."""


@dataclass(frozen=True)
class ImageResult:
    """The segmentation of one image, and what the names of its files are made of.

    Attributes:
        out: folder of the results.
        name: of the files of the image, relative to a folder, without a suffix.
        source: path of the image, or the name of one that was given as an array.
        image: RGB uint8 [H, W, 3].
        found: its segmentation.
        pixels: the `pacl.images.pixel_checksum` of one that was given as an array: a file that happens to have its name
            is another image.
        background: whether a background rule may leave pixels without a label, as in `pacl.results.run_file.Run`.
    """

    out: Path
    name: str
    source: Path
    image: np.ndarray
    found: Result
    pixels: str | None = None
    background: bool = False

    @property
    def file(self) -> Path | None:
        """The file of the image; None for one that was given as an array."""
        return self.source if self.pixels is None and self.source.is_file() else None

    @property
    def identity(self) -> Path | str:
        """What tells the image from others, see `pacl.results.same_image.Identity`."""
        return self.pixels or self.source

    def path(self, ending: str, folder: str = "") -> Path:
        """``OUT/FOLDER/NAME.ENDING``"""
        return self.out / folder / f"{self.name}.{ending}"


def score_maps(found: Result) -> Iterator[np.ndarray]:
    """One map [H, W] at a time, because those of 150 labels of a large image would not fit in memory."""
    return (found.score_map(label) for label in found.labels)
