import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from pacl.metrics.areas import accuracy, areas_of, confusion_of, count, iou, overlap, scores
from pacl.metrics.segmentation import Confusion, class_iou, mean_accuracy, mean_iou, pixel_accuracy

TARGET = np.array([[0, 0, 0, 1], [1, 1, 2, -1]])
PREDICTION = np.array([[0, 0, 1, 1], [1, 0, 3, 3]])


def test_hand_computed():
    areas = count(PREDICTION, TARGET, 5)
    assert areas.tolist() == [[2, 2, 0, 0, 0], [3, 3, 0, 1, 0], [3, 3, 1, 0, 0]]  # the ignored pixel is nowhere
    assert iou(areas)[:4].tolist() == [2 / 4, 2 / 4, 0, 0]  # class 2 is missed, class 3 is invented: both count 0
    assert math.isnan(iou(areas)[4])  # neither true nor predicted
    assert accuracy(areas)[:3].tolist() == [2 / 3, 2 / 3, 0]
    assert np.isnan(accuracy(areas)[3:]).all()
    assert scores(areas) == pytest.approx(
        {"miou": 1 / 4, "pixel_accuracy": 4 / 7, "mean_accuracy": (2 / 3 + 2 / 3 + 0) / 3}
    )


def test_equals_the_scores_of_a_confusion_matrix():
    rng = np.random.default_rng(0)
    confusion, total = Confusion(9, ignore=-1), np.zeros((3, 9), np.int64)
    for _ in range(4):
        prediction, target = rng.integers(0, 7, (13, 11)), rng.integers(-1, 8, (13, 11))
        confusion.update(torch.from_numpy(prediction), torch.from_numpy(target))
        total += count(prediction, target, 9)
    matrix = confusion.compute()
    np.testing.assert_array_equal(iou(total), class_iou(matrix).numpy())
    assert scores(total) == pytest.approx(
        {
            "miou": mean_iou(matrix),
            "pixel_accuracy": pixel_accuracy(matrix),
            "mean_accuracy": mean_accuracy(matrix),
        }
    )


def test_leading_axes_are_kept():
    areas = np.stack([count(PREDICTION, TARGET, 5), count(TARGET.clip(0), TARGET, 5)])
    assert scores(areas)["miou"].tolist() == [0.25, 1.0]
    assert iou(areas[None]).shape == (1, 2, 5)


@pytest.mark.filterwarnings("error")
def test_nothing_scored_is_nan_without_a_warning():
    areas = count(PREDICTION, np.full_like(TARGET, -1), 5)
    assert areas.sum() == 0
    assert all(math.isnan(score) for score in scores(areas).values())


def test_overlap_ignores_each_map_by_itself():
    assert overlap(np.array([0, 1, -1, -1]), np.array([0, -1, 1, -1]), 2).tolist() == [[1, 0], [1, 1], [1, 1]]


def test_maps_that_cannot_be_are_errors():
    with pytest.raises(ValueError, match="differ"):
        count(PREDICTION[:1], TARGET, 5)
    with pytest.raises(ValueError, match="label 3, but there are 3 classes"):
        count(PREDICTION, TARGET, 3)
    with pytest.raises(ValueError, match="without a prediction"):
        count(np.full_like(PREDICTION, -1), TARGET, 5)


def test_a_confusion_matrix_by_hand():
    target = np.array([[0, 0, 1], [1, 1, -1]])
    prediction = np.array([[0, 1, 1], [1, 2, 2]])
    found = confusion_of(prediction, target, 4)
    assert found.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert areas_of(found).tolist() == [[1, 2, 0, 0], [1, 3, 1, 0], [2, 3, 0, 0]]
    # Class 2 is predicted and not there: 0. Class 3 is neither: no value.
    np.testing.assert_allclose(iou(areas_of(found)), [1 / 2, 2 / 4, 0, np.nan])


def test_its_margins_are_the_areas():
    assert np.array_equal(areas_of(confusion_of(PREDICTION.clip(0), TARGET, 5)), count(PREDICTION, TARGET, 5))


def test_it_equals_torchmetrics():
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(-1, 7, (40, 50)), rng.integers(0, 7, (40, 50))
    theirs = MulticlassConfusionMatrix(7, ignore_index=-1)(torch.from_numpy(prediction), torch.from_numpy(target))
    assert confusion_of(prediction, target, 7).tolist() == theirs.tolist()


def test_nothing_to_score_and_too_much():
    nothing = np.full((2, 2), -1)
    assert confusion_of(np.zeros((2, 2), int), nothing, 2).sum() == 0
    for prediction, target in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(ValueError, match="outside"):
            confusion_of(np.array([prediction]), np.array([target]), 2)
