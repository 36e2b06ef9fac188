"""Confidence intervals of segmentation scores, by the percentile bootstrap over images (Efron, 1979).

Each bootstrap sample consists of I images sampled with replacement; its scores are computed from their summed areas.
The interval contains the middle 95 % of these scores. It reflects the choice of images only, not the choice of prompts,
the randomness of training or errors in the labels.

To compare two methods, use `paired_interval`, which takes the same samples for both. Images that are hard for one
method are usually hard for the other, too, so the interval of the difference is much narrower than the two separate
intervals suggest.

A class with few images is missing from some samples, whose mean is then over fewer classes. On a small subset of a
benchmark the interval may therefore not contain the score. With hundreds of images per class the effect is negligible.

Scores are computed from sums of integers, so they do not depend on the machine or the number of threads.

Shapes: I images, C classes, R bootstrap samples (r in a chunk).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pacl.metrics.segmentation import scores

DRAWS = 1000
LEVEL = 0.95
CHUNK = 64  # samples in memory at once: 64 x 3 x 171 numbers

Interval = tuple[float, float]


def score_intervals(areas: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> dict[str, Interval]:
    """Confidence intervals of `pacl.metrics.segmentation.scores`.

    Args:
        areas: areas of each image, int64 [I, 3, C].
        draws: number of bootstrap samples R.
        seed: random seed.
        level: confidence level in (0, 1).

    Returns:
        ``miou``, ``pixel_accuracy`` and ``mean_accuracy`` -> (low, high) in [0, 1]; NaN if no pixel is scored.

    Raises:
        ValueError: no images or no samples, or areas too large to be summed exactly.
    """
    drawn = [scores(sums) for sums in _resampled(areas, draws, seed)]
    return {name: _middle(np.concatenate([each[name] for each in drawn]), level) for name in drawn[0]}


def paired_interval(
    areas_a: np.ndarray, areas_b: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Confidence interval of the difference in mIoU between methods a and b, from the same samples for both.

    Args:
        areas_a: areas of each image with method a, int64 [I, 3, C].
        areas_b: areas of the same images in the same order with method b.
        draws, seed, level: as in `score_intervals`.

    Returns:
        (low, high) of mIoU of a minus mIoU of b, in [-1, 1]. If it does not contain 0, the difference is significant.

    Raises:
        ValueError: the shapes differ, or as in `score_intervals`.
    """
    if areas_a.shape != areas_b.shape:
        raise ValueError(f"areas {areas_a.shape} and {areas_b.shape} are not of the same images and classes")
    a, b = (
        np.concatenate([scores(sums)["miou"] for sums in _resampled(areas, draws, seed)])
        for areas in (areas_a, areas_b)
    )
    return _middle(a - b, level)


def _resampled(areas: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Areas summed over the images of each bootstrap sample: chunks of float64 [r, 3, C] with integer values."""
    images, *shape = areas.shape
    if not images or draws < 1:
        raise ValueError(f"{images} images, {draws} draws: both must be at least 1")
    # A matrix product in float64 is exact, in any order of summation, while every sum is below 2^53.
    if int(areas.sum(axis=-1).max()) * images >= 2**53:
        raise ValueError("areas are too large to be summed exactly")
    flat = areas.reshape(images, -1).astype(np.float64)  # [I, 3 C]
    rng = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        chosen = rng.integers(images, size=(min(CHUNK, draws - start), images))
        times = np.stack([np.bincount(sample, minlength=images) for sample in chosen])  # [r, I]: count of each image
        yield (times.astype(np.float64) @ flat).reshape(-1, *shape)


def _middle(values: np.ndarray, level: float) -> Interval:
    """Lower and upper bound of the middle ``level`` of the finite values; NaN if there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
