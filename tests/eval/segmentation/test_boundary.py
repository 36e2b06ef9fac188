import math

import numpy as np
import pytest

from eval.segmentation.boundary import boundary_areas, near_contour
from pacl.metrics.segmentation import iou

ndimage = pytest.importorskip("scipy.ndimage", reason="the comparison needs pacl[eval]")

SQUARE = np.ones((3, 3), bool)


def disc(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def noisy(seed: int, height: int, width: int, classes: int) -> np.ndarray:
    """Random discs of all classes."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    for _ in range(40):
        labels[disc(height, width, rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 14))] = rng.integers(
            classes
        )
    return labels


def eroded_away(mask: np.ndarray, d: int) -> np.ndarray:
    """The authors' definition: pad the mask with zeros, erode it d times by 3 x 3, and take the removed pixels."""
    return mask & ~ndimage.binary_erosion(np.pad(mask, d), SQUARE, iterations=d)[d:-d, d:-d]


def test_hand_computed():
    # 50 x 50: the diagonal is 70.7, so d = 1: every contour is one pixel wide, and the image border is a contour.
    target = np.zeros((50, 50), np.int32)
    target[10:20, 10:20] = 1
    prediction = np.zeros_like(target)
    prediction[10:20, 11:21] = 1  # one pixel to the right
    rim, frame = 4 * 9, 4 * 49
    around = 12 * 12 - 10 * 10  # pixels of class 0 around the square, including corners
    # The rims of both squares are shifted by one pixel. Their upper and lower rows have 9 of 10 pixels in common, their
    # columns none; the rows of the pixels around them have 11 of 12 pixels in common.
    areas = boundary_areas(prediction, target, 3)
    assert areas[:, 1].tolist() == [2 * 9, rim, rim]
    assert areas[:, 0].tolist() == [frame + 2 * 11, frame + around, frame + around]
    assert areas[:, 2].tolist() == [0, 0, 0]
    assert iou(areas)[1] == 18 / 54
    assert math.isnan(iou(areas)[2])


def test_the_width_is_a_share_of_the_diagonal_and_at_least_one_pixel():
    target = np.zeros((300, 400), np.int32)  # diagonal 500: d = 10
    areas = boundary_areas(target, target, 1)
    assert areas[:, 0].tolist() == [300 * 400 - 280 * 380] * 3
    assert boundary_areas(target, target, 1, ratio=0.0029)[2, 0] == 300 * 400 - 298 * 398  # 1.45
    assert boundary_areas(target, target, 1, ratio=1e-9)[2, 0] == 300 * 400 - 298 * 398
    assert boundary_areas(target, target, 1, ratio=1)[2, 0] == 300 * 400


@pytest.mark.parametrize("d", [1, 2, 5])
def test_equals_the_erosion_of_each_mask(d):
    labels = noisy(0, 61, 83, 6)
    near = near_contour(labels, d, 6)
    for c in range(6):
        np.testing.assert_array_equal(near == c, eroded_away(labels == c, d))


def test_areas_equal_those_of_single_masks():
    target = noisy(2, 120, 160, 171)
    prediction = np.maximum(np.roll(target, 2, axis=1), noisy(1, 120, 160, 171) * (target < 40))
    d = 4  # 0.02 * 200
    expected = np.zeros((3, 171), np.int64)
    for c in np.union1d(prediction, target):
        p, t = (eroded_away(labels == c, d) for labels in (prediction, target))
        expected[:, c] = (p & t).sum(), p.sum(), t.sum()
    np.testing.assert_array_equal(boundary_areas(prediction, target, 171), expected)
    assert (expected[0] > 0).sum() > 10


def test_ignored_pixels_make_no_contour():
    target = np.zeros((40, 60), np.int32)  # d = 1
    target[:, 30:] = 1
    target[10:20, 5:15] = -1  # inside class 0: no contour around it
    target[25:30, 29] = -1  # on the contour: removes 5 pixels of class 0 and 3 of class 1 beside them
    areas = boundary_areas(target.clip(0), target, 2)
    edge = 2 * 30 + 2 * 40 - 2 - 2  # of each half: three sides of the image and the contour
    assert areas[2].tolist() == [edge - 5, edge - 3]  # 3: pixels of class 1 whose neighbours in class 0 are all ignored
    np.testing.assert_array_equal(areas[0], areas[1])


def test_predictions_at_ignored_pixels_have_no_effect():
    prediction, target = noisy(3, 90, 70, 5), noisy(4, 90, 70, 5)
    target[disc(90, 70, 40, 30, 20)] = -1
    elsewhere = np.where(target == -1, noisy(5, 90, 70, 5), prediction)
    assert (elsewhere != prediction).any()
    np.testing.assert_array_equal(boundary_areas(prediction, target, 5), boundary_areas(elsewhere, target, 5))
    correct = np.where(target == -1, elsewhere, target)
    hits, predicted, true = boundary_areas(correct, target, 5)
    assert hits.sum() > 0
    assert hits.tolist() == predicted.tolist() == true.tolist()


def test_larger_shifts_have_lower_scores():
    target = disc(200, 200, 100, 100, 60).astype(np.int32)
    scores = [iou(boundary_areas(np.roll(target, shift, 1), target, 2))[1] for shift in (0, 2, 4, 8)]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert scores[-1] < 0.5  # its plain IoU is 0.84


def test_areas_are_zero_if_all_pixels_are_ignored():
    assert boundary_areas(np.zeros((9, 9), int), np.full((9, 9), -1), 3).sum() == 0


def test_different_sizes_are_an_error():
    with pytest.raises(ValueError, match="differ"):
        boundary_areas(np.zeros((9, 8), int), np.zeros((8, 9), int), 3)
