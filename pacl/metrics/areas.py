"""Areas of classes in label maps, and the scores that follow from them.

``areas`` is int64 [..., 3, C]: of each class the pixels that are right (``hits``), that the prediction gives it
(``predicted``) and that the labels give it (``true``), among the pixels that are scored. Whole numbers that add up over
pictures: kept for each picture, they give the score of any set of pictures exactly.

Shapes: I images, C classes, H W pixels.
"""

from __future__ import annotations

import numpy as np

from pacl.data.masks import IGNORED


def count(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Areas of one label map.

    Args:
        prediction: integers [H, W], 0..C-1 wherever the target is not ignored.
        target: integers [H, W], 0..C-1 or `IGNORED`.
        classes: C.

    Returns:
        int64 [3, C].
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} differ")
    counted = target != IGNORED
    if (prediction[counted] == IGNORED).any():
        raise ValueError("scored pixels without a prediction: give each a class")
    return overlap(prediction[counted], target[counted], classes)


def overlap(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Areas of two maps in which `IGNORED` is "no class here", each by itself: int64 [3, C]."""
    agreed = target[prediction == target]
    return np.stack([_histogram(labels, classes) for labels in (agreed, prediction, target)])


def _histogram(labels: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class, int64 [C]."""
    counts = np.bincount(labels[labels != IGNORED], minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"a map holds the label {len(counts) - 1}, but there are {classes} classes")
    return counts


def confusion_of(prediction: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix of one picture.

    Args:
        prediction: integer [H, W], classes 0..C-1 where the target is scored.
        target: integer [H, W], classes 0..C-1; a negative pixel is not scored.
        classes: C.

    Returns:
        int64 [C, C], rows true.

    Raises:
        ValueError: a class beyond C.
    """
    counted = target >= 0
    true, predicted = target[counted].astype(np.int64), prediction[counted].astype(np.int64)
    if len(true) and not (predicted.min() >= 0 and max(true.max(), predicted.max()) < classes):
        raise ValueError(f"classes outside 0..{classes - 1}")
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def areas_of(confusion: np.ndarray) -> np.ndarray:
    """Confusion matrix int64 [C, C] -> areas int64 [3, C]."""
    return np.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def iou(areas: np.ndarray) -> np.ndarray:
    """Intersection over union of every class: [..., 3, C] -> float64 [..., C]; NaN where the union is empty."""
    hits, predicted, true = np.moveaxis(areas, -2, 0)
    return _ratio(hits, predicted + true - hits)


def accuracy(areas: np.ndarray) -> np.ndarray:
    """Share of each class's pixels that are right (recall): [..., 3, C] -> float64 [..., C]; NaN where it has none."""
    hits, _, true = np.moveaxis(areas, -2, 0)
    return _ratio(hits, true)


def scores(areas: np.ndarray) -> dict[str, np.ndarray]:
    """The three scores of label maps, each float64 [...] in [0, 1]; NaN where nothing is scored.

    ``miou`` is the mean IoU of the classes whose union is not empty, ``pixel_accuracy`` the share of all pixels that
    are right, ``mean_accuracy`` the mean `accuracy` of the classes that the labels hold.
    """
    hits, _, true = np.moveaxis(areas, -2, 0)
    return {
        "miou": _mean(iou(areas)),
        "pixel_accuracy": _ratio(hits.sum(-1), true.sum(-1)),
        "mean_accuracy": _mean(accuracy(areas)),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and NaN for 0 / 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis without NaN; NaN, and no warning, where there is nothing else."""
    return _ratio(np.nansum(values, axis=-1), np.isfinite(values).sum(-1))
