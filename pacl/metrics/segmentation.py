"""Segmentation scores as benchmarks define them: pixels are summed over the whole data set, then divided once.

Everything follows from ``areas``, int64 [..., 3, C]: for each class the pixels that are correct (``hits``), predicted
(``predicted``) and labelled (``true``), among the pixels that are scored. These are integers that add up over images,
so the areas of each image give the exact scores of any set of images, in constant memory.

A pixel whose label is negative is not scored. Shapes: C classes, H W pixels.
"""

from __future__ import annotations

import numpy as np


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix of one or more label maps.

    Args:
        prediction: integers [..., H, W], classes 0..C-1 wherever the target is scored.
        target: integers [..., H, W], classes 0..C-1; negative pixels are not scored.
        classes: C.

    Returns:
        int64 [C, C], rows are labels, columns predictions.

    Raises:
        ValueError: shapes differ, or a class is outside 0..C-1.
    """
    true, predicted = _scored(prediction, target, classes)
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def areas_of_confusion(confusion: np.ndarray) -> np.ndarray:
    """Confusion matrix int64 [C, C] -> areas int64 [3, C]."""
    return np.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def count_areas(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Areas int64 [3, C] of label maps, without the [C, C] matrix; arguments and errors as in `confusion_matrix`."""
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
    """Intersection over union of each class: [..., 3, C] -> float64 [..., C]; NaN where the union is empty."""
    hits, predicted, true = np.moveaxis(areas, -2, 0)
    return _ratio(hits, predicted + true - hits)


def class_accuracy(areas: np.ndarray) -> np.ndarray:
    """Recall of each class: [..., 3, C] -> float64 [..., C]; NaN where no pixel has that label."""
    hits, _, true = np.moveaxis(areas, -2, 0)
    return _ratio(hits, true)


def scores(areas: np.ndarray) -> dict[str, np.ndarray]:
    """The three scores of label maps, each float64 [...] in [0, 1]; NaN where nothing is scored.

    ``miou`` is the mean IoU of the classes whose union is not empty, ``pixel_accuracy`` the share of all pixels that
    are correct, ``mean_accuracy`` the mean `class_accuracy` of the classes that occur in the labels.
    """
    hits, _, true = np.moveaxis(areas, -2, 0)
    return {
        "miou": _mean(iou(areas)),
        "pixel_accuracy": _ratio(hits.sum(-1), true.sum(-1)),
        "mean_accuracy": _mean(class_accuracy(areas)),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and NaN for 0 / 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN, without a warning, where all values are NaN."""
    return _ratio(np.nansum(values, axis=-1), np.isfinite(values).sum(-1))
