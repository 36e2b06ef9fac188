"""Segmentation scores as benchmarks define them: pixel counts are summed over the whole data set before the division.

All scores are computed from areas, int64 [..., 3, C]: the number of scored pixels that are correct (``hits``),
predicted (``predicted``) and labelled (``true``) as each class. Pixels with a negative label are not scored. The areas
of several images can be summed.

Shapes: C classes, H W pixels.
"""

from __future__ import annotations

import numpy as np


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix of one or more label maps.

    Args:
        prediction: integers [..., H, W], classes 0..C-1 wherever the target is scored.
        target: integers [..., H, W], classes 0..C-1; pixels with a negative value are not scored.
        classes: C.

    Returns:
        int64 [C, C]; rows are labels, columns are predictions.

    Raises:
        ValueError: the shapes differ, or a scored pixel has a class outside 0..C-1.
    """
    true, predicted = _scored(prediction, target, classes)
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def areas_of_confusion(confusion: np.ndarray) -> np.ndarray:
    """Confusion matrix, int64 [C, C] -> areas, int64 [3, C]."""
    return np.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def count_areas(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Areas, int64 [3, C], of one or more label maps; arguments and errors as in `confusion_matrix`."""
    true, predicted = _scored(prediction, target, classes)
    return np.stack([np.bincount(each, minlength=classes) for each in (true[true == predicted], predicted, true)])


def _scored(prediction: np.ndarray, target: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of the scored pixels, int64 [N] each."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} differ")
    scored = target >= 0
    true, predicted = target[scored].astype(np.int64), prediction[scored].astype(np.int64)
    if len(true) and not (predicted.min() >= 0 and max(true.max(), predicted.max()) < classes):
        raise ValueError(f"a scored pixel has a class outside 0..{classes - 1}")
    return true, predicted


def iou(areas: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: areas [..., 3, C] -> float64 [..., C]; NaN if the union is empty."""
    hits, predicted, true = np.moveaxis(areas, -2, 0)
    return _ratio(hits, predicted + true - hits)


def class_accuracy(areas: np.ndarray) -> np.ndarray:
    """Recall of each class: areas [..., 3, C] -> float64 [..., C]; NaN if no pixel has that label."""
    hits, _, true = np.moveaxis(areas, -2, 0)
    return _ratio(hits, true)


def scores(areas: np.ndarray) -> dict[str, np.ndarray]:
    """The usual segmentation scores.

    Args:
        areas: [..., 3, C].

    Returns:
        Three scores in [0, 1], float64 [...] each, NaN if no pixel is scored: ``miou``, the mean IoU over classes that
        are labelled or predicted anywhere; ``pixel_accuracy``, the share of correct pixels; ``mean_accuracy``, the mean
        `class_accuracy` over classes that are labelled anywhere.
    """
    hits, _, true = np.moveaxis(areas, -2, 0)
    return {
        "miou": _mean(iou(areas)),
        "pixel_accuracy": _ratio(hits.sum(-1), true.sum(-1)),
        "mean_accuracy": _mean(class_accuracy(areas)),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, with NaN for 0 / 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """``np.nanmean`` over the last axis, without a warning if all values are NaN."""
    return _ratio(np.nansum(values, axis=-1), np.isfinite(values).sum(-1))
