"""Boundary IoU (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562): IoU of the pixels near contours only.

Of a mask G, G_d are its pixels within d pixels of its contour, d a share of the picture's diagonal; the score is the
IoU of G_d and P_d. The authors take what d erosions by 3 x 3 pixels remove from the mask, on a picture framed with
zeros: a pixel stays when the (2d + 1)-square around it lies within the mask, and the picture's edge is a contour.

The classes of a label map exclude each other, so all their masks are eroded together: a pixel is near the contour of
its own class exactly where the square around it holds another label, that is, where its largest or its smallest label
differs from the pixel's. Two filters, whatever the number of classes.

Ignored pixels say neither that a mask goes on under them nor that it ends there. They are in no mask, and they make no
contour: a pixel is near one only if a scored pixel of another class, or the picture's edge, is near. That holds for
both maps, so what is predicted under ignored pixels never matters, and a prediction that is right wherever there are
labels scores 1. Where all background is ignored (VOC20), the outlines of objects against it are therefore not scored,
only those between objects; score VOC21 for them. Without ignored pixels it is the authors' definition to the pixel.

Shapes: C classes, H W pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from pacl.data.masks import IGNORED
from pacl.metrics.areas import overlap

RATIO = 0.02
"""d over the picture's diagonal: the authors' value."""


def boundary_areas(prediction: np.ndarray, target: np.ndarray, classes: int, ratio: float = RATIO) -> np.ndarray:
    """Areas of the classes near their contours.

    Args:
        prediction: integers [H, W], 0..C-1 wherever the target is not ignored.
        target: integers [H, W], 0..C-1 or `IGNORED`.
        classes: C.
        ratio: d over the diagonal; d is rounded, and at least one pixel.

    Returns:
        int64 [3, C]: pixels of G_d and P_d, of P_d, and of G_d. Boundary IoU is `pacl.metrics.areas.iou` of their sum
        over the images.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} differ")
    d = max(1, round(ratio * math.hypot(*target.shape)))
    scored = np.where(target == IGNORED, IGNORED, prediction)
    return overlap(near_contour(scored, d, classes), near_contour(target, d, classes), classes)


def near_contour(labels: np.ndarray, d: int, classes: int) -> np.ndarray:
    """The labels within d pixels of their class's contour, `IGNORED` elsewhere: integers [H, W] -> int16 [H, W]."""
    labels = labels.astype(np.int16)
    square = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    # Ignored pixels are below all classes for the largest, above all for the smallest: they never win. Beyond the
    # edge lies a label that no class has.
    largest = cv2.dilate(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=classes)
    smallest = cv2.erode(np.where(labels == IGNORED, np.int16(classes), labels), square)
    return np.where((largest != labels) | (smallest != labels), labels, np.int16(IGNORED))
