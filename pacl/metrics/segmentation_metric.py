"""Segmentation scores as a torchmetrics metric, for training loops.

It is not in `pacl.metrics.segmentation`, because importing torchmetrics is slow and benchmarks do not need it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from pacl.metrics.segmentation import count_areas, scores


class SegmentationScores(Metric):
    """`pacl.metrics.segmentation.scores` of all label maps that were added, on all processes.

    Args:
        classes: number of classes.
        **settings: arguments of `torchmetrics.Metric`, such as ``sync_on_compute=False`` if only one process evaluates.
    """

    full_state_update = False
    areas: Tensor

    def __init__(self, classes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("areas", torch.zeros(3, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add integer label maps [..., H, W], see `pacl.metrics.segmentation.confusion_matrix`."""
        counted = count_areas(prediction.cpu().numpy(), target.cpu().numpy(), self.areas.shape[1])
        self.areas += torch.from_numpy(counted).to(self.areas.device)

    def compute(self) -> dict[str, float]:
        """``miou``, ``pixel_accuracy`` and ``mean_accuracy`` in [0, 1]; NaN if no pixel is scored."""
        return {name: float(value) for name, value in scores(self.areas.cpu().numpy()).items()}
