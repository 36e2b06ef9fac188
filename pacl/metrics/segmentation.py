"""Segmentation scores as benchmarks state them: areas summed over the whole set, then divided once.

Rows of a confusion matrix are true classes, columns predictions. Everything is derived from it, so a set is
scored in constant memory, and ranks add their matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

IGNORE = 255  # the label that official data sets give to pixels that are not scored


class Confusion(MulticlassConfusionMatrix):
    """Confusion matrix of label maps, summed over images (and ranks): ``compute()`` gives int64 ``[C, C]``.

    ``update(prediction, target)`` takes integer maps of equal shape. Pixels whose target is ``ignore`` do not
    count; every other value must lie in ``[0, classes)``.

    Attributes:
        classes: C, the number of classes.
    """

    def __init__(self, classes: int, ignore: int = IGNORE) -> None:
        super().__init__(classes, ignore_index=ignore, normalize=None, validate_args=False)
        self.classes, self.ignore = classes, ignore

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add maps ``[..., H, W]`` of integers."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ")
        counted = target != self.ignore
        prediction, target = prediction[counted].long(), target[counted].long()
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
                raise ValueError(f"{name} holds labels outside 0..{self.classes - 1}")
        super().update(prediction, target)


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of every class.

    Args:
        confusion: ``[C, C]`` counts, rows true.

    Returns:
        float64 ``[C]`` in [0, 1]; NaN where a class is neither in the targets nor predicted (union zero).
    """
    hit = confusion.diagonal().double()
    return hit / (confusion.sum(0) + confusion.sum(1) - hit)  # 0 / 0 is NaN


def mean_iou(confusion: Tensor, among: Sequence[int] | None = None) -> float:
    """Mean of `class_iou` over the classes ``among`` (all if None) whose union is not zero, in [0, 1]."""
    iou = class_iou(confusion)
    return float(iou[list(among)].nanmean() if among is not None else iou.nanmean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of the counted pixels whose class is right, in [0, 1]; NaN of an empty matrix."""
    return float(confusion.diagonal().sum().double() / confusion.sum())


def mean_accuracy(confusion: Tensor) -> float:
    """Mean over the classes that occur of the share of their pixels that is right (recall), in [0, 1]."""
    return float((confusion.diagonal().double() / confusion.sum(1)).nanmean())


def occurring(confusion: Tensor) -> list[int]:
    """The classes that have pixels in the targets."""
    return torch.nonzero(confusion.sum(1)).flatten().tolist()
