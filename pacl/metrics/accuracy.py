"""Accuracy of a classifier from counts that add up: top-1, top-5 and the mean over classes, with intervals.

Everything follows from `outcomes`: for every class, how many of its images had it in first place, among the first
five only, and not among them. Shapes: B I images, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCORES = {"top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class"}


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Places, from 0, of the right classes.

    Of equal scores the lower class number comes first, as argmax has it: a constant score earns what chance does,
    and classes that share a name (ImageNet's two "sunglasses") share its images.

    Args:
        scores: [B, C], higher is better.
        labels: int64 [B], the right classes.
    """
    import torch

    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(dim=1)


def outcomes(scores: Tensor, labels: Tensor) -> np.ndarray:
    """How many images of each class ranked it first, second to fifth, and lower: int64 [C, 3]."""
    import torch

    places = ranks(scores, labels)
    cell = 3 * labels + (places >= 1).long() + (places >= 5).long()
    return torch.bincount(cell, minlength=3 * scores.shape[1]).reshape(-1, 3).cpu().numpy()


def accuracies(counts: np.ndarray) -> dict[str, float]:
    """top1, top5 and mean_per_class, in percent, of `outcomes` [..., C, 3].

    A class without images is left out of the mean over classes.
    """
    total = counts.sum(axis=(-2, -1))
    found = {"top1": counts[..., 0].sum(-1) / total, "top5": counts[..., :2].sum((-2, -1)) / total}
    found["mean_per_class"] = np.nanmean(per_class(counts), axis=-1)
    return {name: 100 * value for name, value in found.items()}


def per_class(counts: np.ndarray) -> np.ndarray:
    """Share of each class's images, in [0, 1], that ranked it first: [..., C]; NaN for a class without images."""
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts.sum(axis=-1)


def intervals(counts: np.ndarray, draws: int = 1000, seed: int = 0, level: float = 0.95) -> dict[str, list[float]]:
    """Percentile bootstrap over images of `accuracies`: its bounds, in percent.

    Drawing I images with replacement is drawing the counts from a multinomial distribution, which is all it needs.
    """
    images = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(images, counts.ravel() / images, size=draws)
    found = accuracies(drawn.reshape(draws, *counts.shape))
    tail = 50 * (1 - level)
    return {name: np.percentile(values, [tail, 100 - tail]).tolist() for name, values in found.items()}
