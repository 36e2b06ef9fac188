"""How much a score would vary with other pictures: percentile bootstrap over the images (Efron 1979).

Each of many draws takes as many images as there are, with replacement, and scores them anew from their areas; the
interval holds the middle 95 % of these scores. It speaks of the choice of pictures alone: not of prompts, of training
or of the labels' own errors. Two methods on the same pictures are compared by `paired`: what makes a picture hard is
hard for both, so the interval of their difference is much narrower than those of the two scores suggest.

A class of few images is missing from some draws, whose mean is then over fewer classes. With hundreds of images a class
that is nothing; on a small subset the interval may lie to one side of the score, or beside it.

All scores of a draw come from sums of whole numbers, so they are exact, whatever the machine and its threads.

Shapes: I images, C classes, R draws (r of a chunk).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pacl.metrics.areas import scores

DRAWS = 1000
LEVEL = 0.95
CHUNK = 64  # draws whose sums are held at once: 64 x 3 x 171 numbers

Interval = tuple[float, float]


def intervals(areas: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> dict[str, Interval]:
    """Bounds of the scores of `pacl.metrics.areas.scores`.

    Args:
        areas: int64 [I, 3, C], of each image.
        draws: R.
        seed: of the draws.
        level: how much of the draws an interval holds, the rest being equal on both sides.

    Returns:
        ``miou``, ``pixel_accuracy`` and ``mean_accuracy`` as (low, high), in [0, 1]. Classes that a draw lacks are left
        out of its mean; (NaN, NaN) where nothing is scored.
    """
    drawn = [scores(sums) for sums in _resampled(areas, draws, seed)]
    return {name: _middle(np.concatenate([each[name] for each in drawn]), level) for name in drawn[0]}


def paired(
    areas_a: np.ndarray, areas_b: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Bounds of the mIoU of a method less that of another, on the same images and in the same draws.

    Args:
        areas_a, areas_b: int64 [I, 3, C] each, image by image.
        draws, seed, level: as in `intervals`.

    Returns:
        (low, high) in [-1, 1]; an interval without 0 says that the order of the two does not hang on the pictures.
    """
    if areas_a.shape != areas_b.shape:
        raise ValueError(f"areas {areas_a.shape} and {areas_b.shape} are not of the same images and classes")
    a, b = (
        np.concatenate([scores(sums)["miou"] for sums in _resampled(areas, draws, seed)])
        for areas in (areas_a, areas_b)
    )
    return _middle(a - b, level)


def _resampled(areas: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """The areas of all draws, summed over their images: chunks of float64 [r, 3, C], whole numbers."""
    images, *shape = areas.shape
    if not images or draws < 1:
        raise ValueError(f"{images} images, {draws} draws: both are 1 or more")
    # A product of matrices in float64 is exact, in whatever order it adds, while every sum is below 2^53.
    if int(areas.sum(axis=-1).max()) * images >= 2**53:
        raise ValueError("areas are too large to be summed exactly")
    flat = areas.reshape(images, -1).astype(np.float64)  # [I, 3 C]
    rng = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        chosen = rng.integers(images, size=(min(CHUNK, draws - start), images))
        times = np.stack([np.bincount(draw, minlength=images) for draw in chosen])  # [r, I]: how often each is drawn
        yield (times.astype(np.float64) @ flat).reshape(-1, *shape)


def _middle(values: np.ndarray, level: float) -> Interval:
    """Quantiles that hold `level` of the values that are numbers."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
