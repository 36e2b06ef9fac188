"""Boundary IoU (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562): IoU over the pixels near contours only.

Let G be the ground truth mask and P the predicted mask of a class. G_d is the set of pixels of G within d pixels of its
contour, where d is a fraction of the image diagonal; Boundary IoU is the IoU of G_d and P_d. In the authors' code, G_d
are the pixels that d erosions by a 3 x 3 square remove from the zero-padded mask. So a pixel of G is in G_d unless the
square of 2d + 1 pixels around it lies within G, and the image border counts as a contour.

In a label map the masks do not overlap, so all of them can be eroded together. A pixel is near the contour of its class
if the square around it contains another label, which means that the largest or the smallest label in the square differs
from its own. Two filters are enough for any number of classes.

Ignored pixels (with a negative label) belong to no mask and have no contour. A pixel is near a contour only if a scored
pixel of another class, or the image border, is near. Predictions at ignored pixels have no effect, and a prediction
that is correct at all scored pixels has a score of 1. If the whole background is ignored (VOC20), contours between
objects and background are not scored, but contours between objects are; use VOC21 to score both. Without ignored pixels
the result is exactly that of the authors' definition.

Shapes: C classes, H W pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

RATIO = 0.02
"""d as a fraction of the image diagonal; the authors' value."""


def boundary_areas(prediction: np.ndarray, target: np.ndarray, classes: int, ratio: float = RATIO) -> np.ndarray:
    """Count the pixels near contours. Boundary IoU is `pacl.metrics.segmentation.iou` of the areas summed over images.

    Args:
        prediction: integers [H, W], 0..C-1 wherever the target is scored.
        target: integers [H, W], 0..C-1; pixels with a negative value are not scored.
        classes: C.
        ratio: d as a fraction of the image diagonal; d is rounded and at least one pixel.

    Returns:
        int64 [3, C]: for each class the number of pixels in both G_d and P_d, in P_d, and in G_d.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} differ")
    d = max(1, round(ratio * math.hypot(*target.shape)))
    predicted = near_contour(np.where(target < 0, -1, prediction), d, classes)
    true = near_contour(target, d, classes)
    maps = true[true == predicted], predicted, true
    return np.stack([np.bincount(labels[labels >= 0], minlength=classes) for labels in maps])


def near_contour(labels: np.ndarray, d: int, classes: int) -> np.ndarray:
    """Keep labels within d pixels of the contour of their class, and set all others to -1: [H, W] -> int16 [H, W]."""
    labels = labels.astype(np.int16)
    square = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    # Ignored pixels must not be found as another label, so they are lower than all classes for the maximum and replaced
    # by a higher value for the minimum. The image is padded with a label that no class has.
    largest = cv2.dilate(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=classes)
    smallest = cv2.erode(np.where(labels < 0, np.int16(classes), labels), square)
    return np.where((largest != labels) | (smallest != labels), labels, np.int16(-1))
