"""Confidence intervals of segmentation scores: percentile bootstrap over the images (Efron 1979).

Each draw takes I images with replacement and computes their scores from the areas; the interval holds the middle 95 %
of these scores. It covers the choice of images only, not that of prompts or training, nor errors in the labels. Two
methods are compared on the same draws (`paired_interval`): an image that is hard is hard for both, so the interval of
the difference is much narrower than the two separate intervals suggest.

A class with few images is missing from some draws, whose mean is then over fewer classes. On a small subset the
interval may therefore not contain the score; with hundreds of images a class the effect is negligible.

Scores of a draw are computed from sums of integers, so they do not depend on the machine or the number of threads.

Shapes: I images, C classes, R draws (r of one chunk).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pacl.metrics.segmentation import scores

DRAWS = 1000
LEVEL = 0.95
CHUNK = 64  # draws in memory at once: 64 x 3 x 171 numbers

Interval = tuple[float, float]


def score_intervals(areas: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> dict[str, Interval]:
    """Bounds of the scores of `pacl.metrics.segmentation.scores`.

    Args:
        areas: int64 [I, 3, C], one row per image.
        draws: R.
        seed: of the draws.
        level: fraction of the draws within an interval; the rest is split equally between both sides.

    Returns:
        ``miou``, ``pixel_accuracy`` and ``mean_accuracy`` as (low, high), in [0, 1]. Classes that are
        missing from a draw are left out of its mean; (NaN, NaN) where nothing is scored.
    """
    drawn = [scores(sums) for sums in _resampled(areas, draws, seed)]
    return {name: _middle(np.concatenate([each[name] for each in drawn]), level) for name in drawn[0]}


def paired_interval(
    areas_a: np.ndarray, areas_b: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Bounds of the difference in mIoU, a minus b, of two methods on the same images and draws.

    Args:
        areas_a, areas_b: int64 [I, 3, C] each, of the same images in the same order.
        draws, seed, level: as in `score_intervals`.

    Returns:
        (low, high) in [-1, 1]; without 0, the order of the methods does not depend on the choice of images.
    """
    if areas_a.shape != areas_b.shape:
        raise ValueError(f"areas {areas_a.shape} and {areas_b.shape} are not of the same images and classes")
    a, b = (
        np.concatenate([scores(sums)["miou"] for sums in _resampled(areas, draws, seed)])
        for areas in (areas_a, areas_b)
    )
    return _middle(a - b, level)


def _resampled(areas: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Areas summed over the images of each draw: chunks of float64 [r, 3, C], integers."""
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
        times = np.stack([np.bincount(draw, minlength=images) for draw in chosen])  # [r, I]: times that each is drawn
        yield (times.astype(np.float64) @ flat).reshape(-1, *shape)


def _middle(values: np.ndarray, level: float) -> Interval:
    """The quantiles around the middle `level` of the finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
