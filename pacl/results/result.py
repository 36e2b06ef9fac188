"""What the results of an image are drawn and written from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    def score_map(self, label: str) -> np.ndarray:
        """float32 [H, W]: cosine of every pixel with a label."""


def score_maps(found: Result) -> Iterator[np.ndarray]:
    """One map [H, W] at a time, because those of 150 labels of a large image would not fit in memory."""
    return (found.score_map(label) for label in found.labels)
