"""Top-1, top-5 and mean per-class accuracy of a classifier, with confidence intervals.

All are computed from `count_ranks`: for each class, how many of its images ranked it first, second to fifth, and lower.
These counts add up over batches. Shapes: B I images, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCORES = {"top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class"}


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Rank, from 0, of the true class of each image: int64 [B].

    Of equal scores the lower class number ranks first, as in argmax: a constant score equals random guessing, and
    classes that share a name (ImageNet's two "sunglasses") share its images.

    Args:
        scores: [B, C], higher is better.
        labels: int64 [B], the true classes.
    """
    import torch

    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(dim=1)


def count_ranks(scores: Tensor, labels: Tensor) -> np.ndarray:
    """How many images of each class ranked it first, second to fifth, and lower: int64 [C, 3]."""
    import torch

    found = ranks(scores, labels)
    cell = 3 * labels + (found >= 1).long() + (found >= 5).long()
    return torch.bincount(cell, minlength=3 * scores.shape[1]).reshape(-1, 3).cpu().numpy()


def accuracies(counts: np.ndarray) -> dict[str, float]:
    """top1, top5 and mean_per_class, in percent, of `count_ranks` [..., C, 3].

    A class without images is left out of the mean over classes.
    """
    total = counts.sum(axis=(-2, -1))
    found = {"top1": counts[..., 0].sum(-1) / total, "top5": counts[..., :2].sum((-2, -1)) / total}
    found["mean_per_class"] = np.nanmean(per_class(counts), axis=-1)
    return {name: 100 * value for name, value in found.items()}


def per_class(counts: np.ndarray) -> np.ndarray:
    """Recall of each class, in [0, 1]: [..., C]; NaN for a class without images."""
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts.sum(axis=-1)


def accuracy_intervals(
    counts: np.ndarray, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, list[float]]:
    """Bounds of `accuracies` in percent: percentile bootstrap over the images.

    Drawing I images with replacement is the same as drawing the counts from a multinomial distribution.
    """
    images = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(images, counts.ravel() / images, size=draws)
    found = accuracies(drawn.reshape(draws, *counts.shape))
    tail = 50 * (1 - level)
    return {name: np.percentile(values, [tail, 100 - tail]).tolist() for name, values in found.items()}
