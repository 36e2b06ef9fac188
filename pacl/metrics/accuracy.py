"""Top-1, top-5 and mean per-class accuracy of a classifier, with confidence intervals.

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


def accuracy_intervals(counts: np.ndarray, level: float = 0.95) -> dict[str, list[float]]:
    """Confidence intervals of `accuracies`, see `share_interval`.

    Args:
        counts: the result of `count_ranks`, int64 [C, 3].
        level: confidence level in (0, 1).

    Returns:
        ``top1``, ``top5`` and ``mean_per_class`` -> [lower bound, upper bound] in percent.
    """
    images = counts.sum(axis=1)
    sizes = {"top1": images.sum(), "top5": images.sum(), "mean_per_class": effective_images(images)}
    found = {name: share_interval(value / 100, sizes[name], level) for name, value in accuracies(counts).items()}
    return {name: [100 * low, 100 * high] for name, (low, high) in found.items()}


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


def rate_intervals(
    rates: np.ndarray, labels: np.ndarray, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of means over images and over classes, by the percentile bootstrap over images.

    Args:
        rates: of each image, such as 1 for a right answer and 0 for a wrong one, the share of the right ones of several
            classifiers, or the difference of two methods, [I].
        labels: classes of the images, int64 [I].
        draws: number of bootstrap samples.
        seed: random seed.
        level: confidence level in (0, 1).

    Returns:
        ``top1`` and ``mean_per_class`` -> lower and upper bound, in percent. The mean over classes is over those that
        have images in a sample.
    """
    rng, count = np.random.default_rng(seed), len(rates)
    found = []
    for _ in range(draws):
        drawn = rng.integers(count, size=count)
        images = np.bincount(labels[drawn])
        sums = np.bincount(labels[drawn], weights=rates[drawn])
        found.append((rates[drawn].mean(), (sums[images > 0] / images[images > 0]).mean()))
    low, high = np.percentile(found, [50 - 50 * level, 50 + 50 * level], axis=0)
    names = ("top1", "mean_per_class")
    return {name: (float(100 * a), float(100 * b)) for name, a, b in zip(names, low, high, strict=True)}
