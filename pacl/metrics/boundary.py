"""Boundary IoU (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562): IoU of the pixels near contours only.

G_d are the pixels of a mask G within d pixels of its contour, where d is a fraction of the image diagonal; the score is
the IoU of G_d and P_d. The authors take the pixels that d erosions by 3 x 3 remove from the mask, with the image padded
by zeros: a pixel is not in G_d if the (2d + 1)-square around it is within the mask; the image border is a contour.

The classes of a label map exclude each other, so all masks are eroded together: a pixel is near the contour of its own
class exactly where the square around it holds another label, that is, where the largest or the smallest label in it
differs from the pixel's. This takes two filters, whatever the number of classes.

Ignored pixels, whose label is negative, are in no mask and make no contour: a pixel is near a contour only if a scored
pixel of another class, or the image border, is near. This holds for both maps, so predictions under ignored pixels do
not matter, and a prediction that is correct at all scored pixels scores 1. Where all background is ignored (VOC20), the
outlines of objects against it are therefore not scored, only those between objects; use VOC21 for them. Without ignored
pixels the result equals the authors' definition, pixel by pixel.

Shapes: C classes, H W pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

RATIO = 0.02
"""d / image diagonal, the authors' value."""


def boundary_areas(prediction: np.ndarray, target: np.ndarray, classes: int, ratio: float = RATIO) -> np.ndarray:
    """Areas of the classes near their contours.

    Args:
        prediction: integers [H, W], 0..C-1 wherever the target is scored.
        target: integers [H, W], 0..C-1; negative pixels are not scored.
        classes: C.
        ratio: d / image diagonal; d is rounded, and at least one pixel.

    Returns:
        int64 [3, C]: pixels of the intersection of G_d and P_d, of P_d, and of G_d. Boundary IoU is
        `pacl.metrics.segmentation.iou` of their sum over the images.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} differ")
    d = max(1, round(ratio * math.hypot(*target.shape)))
    predicted = near_contour(np.where(target < 0, -1, prediction), d, classes)
    true = near_contour(target, d, classes)
    maps = true[true == predicted], predicted, true
    return np.stack([np.bincount(labels[labels >= 0], minlength=classes) for labels in maps])


def near_contour(labels: np.ndarray, d: int, classes: int) -> np.ndarray:
    """The labels within d pixels of their class's contour, -1 elsewhere: integers [H, W] -> int16 [H, W]."""
    labels = labels.astype(np.int16)
    square = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    # Ignored pixels are below all classes for the maximum and above all for the minimum, so they never win. Beyond the
    # border lies a label that no class has.
    largest = cv2.dilate(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=classes)
    smallest = cv2.erode(np.where(labels < 0, np.int16(classes), labels), square)
    return np.where((largest != labels) | (smallest != labels), labels, np.int16(-1))
