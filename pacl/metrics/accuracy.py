"""Top-1, top-5 and mean per-class accuracy of a classifier, and the interval of a share.

All scores are computed from `count_ranks`, which counts for each class how many of its images have it at rank 1, at
ranks 2 to 5, or lower. The counts of batches can be summed.

Shapes: B images in a batch, I images in total, C classes.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SCORES = {"top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class"}


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Rank of the true class of each image, from 0.

    Of classes with equal scores the one with the lower number ranks first, as in argmax. So if all scores are equal,
    accuracy is that of random guessing; and of two classes with the same name, such as ImageNet's two "sunglasses", the
    first one is predicted for the images of both.

    Args:
        scores: [B, C], higher is better.
        labels: the true classes, int64 [B].

    Returns:
        int64 [B].
    """
    import torch

    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(dim=1)


def count_ranks(scores: Tensor, labels: Tensor) -> np.ndarray:
    """Count for each class how many of its images have it at rank 1, at ranks 2 to 5, and lower.

    Args:
        scores: [B, C], higher is better.
        labels: the true classes, int64 [B].

    Returns:
        int64 [C, 3].
    """
    import torch

    found = ranks(scores, labels)
    cell = 3 * labels + (found >= 1).long() + (found >= 5).long()
    return torch.bincount(cell, minlength=3 * scores.shape[1]).reshape(-1, 3).cpu().numpy()


def accuracies(counts: np.ndarray) -> dict[str, float]:
    """Counts from `count_ranks`, [..., C, 3] -> ``top1``, ``top5`` and ``mean_per_class`` in percent, each [...].

    The mean over classes is over those that have images.
    """
    total = counts.sum(axis=(-2, -1))
    found = {"top1": counts[..., 0].sum(-1) / total, "top5": counts[..., :2].sum((-2, -1)) / total}
    found["mean_per_class"] = np.nanmean(per_class(counts), axis=-1)
    return {name: 100 * value for name, value in found.items()}


def per_class(counts: np.ndarray) -> np.ndarray:
    """Counts [..., C, 3] -> recall of each class in [0, 1], [..., C]; NaN for a class without images."""
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts.sum(axis=-1)


def share_interval(share: float, images: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, such as that of right answers.

    Unlike that of the percentile bootstrap it has a width also where all or no answers are right: 6 of 6: 61 to 100 %.
    (Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.)

    Args:
        share: of the images, in [0, 1].
        images: their number, at least 1; of weighted images the `effective_images`.
        level: confidence level in (0, 1).

    Returns:
        (low, high) in [0, 1].
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = share + z * z / (2 * images)
    half = z * math.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    low, high = ((middle + side * half) / (1 + z * z / images) for side in (-1, 1))
    return min(max(0.0, float(low)), share), max(min(1.0, float(high)), share)


def effective_images(images: np.ndarray) -> float:
    """The number of images that would tell as much as a mean over classes: a class with few makes it less certain.

    It is Kish's effective sample size (Kish, "Survey Sampling", 1965) of images that weigh 1 / images of their class.

    Args:
        images: number of images of each class, [C]; classes without images do not count.
    """
    present = images[images > 0]
    return float(len(present) ** 2 / (1 / present).sum())
