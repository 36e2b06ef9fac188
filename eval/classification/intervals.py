"""Confidence intervals of accuracies, and of means over images.

Shapes: I images, C classes.
"""

from __future__ import annotations

import numpy as np

from pacl.metrics.accuracy import accuracies, effective_images, share_interval


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
