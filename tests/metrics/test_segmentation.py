import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex

from pacl.metrics.segmentation import areas_of_confusion, class_accuracy, confusion_matrix, count_areas, iou, scores
from pacl.metrics.segmentation_metric import SegmentationScores

TARGET = np.array([[0, 0, 0, 1], [1, 1, 2, -1]])
PREDICTION = np.array([[0, 0, 1, 1], [1, 0, 3, 3]])


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    """Six images; class 6 of 7 occurs nowhere, class 5 only in the targets; a fifth of the pixels is not scored."""
    rng = np.random.default_rng(0)
    prediction, target = rng.integers(0, 5, (6, 9, 7)), rng.integers(0, 6, (6, 9, 7))
    target[rng.random(target.shape) < 0.2] = -1
    return prediction, target


def test_hand_computed():
    areas = count_areas(PREDICTION, TARGET, 5)
    assert areas.tolist() == [[2, 2, 0, 0, 0], [3, 3, 0, 1, 0], [3, 3, 1, 0, 0]]  # the ignored pixel is not counted
    assert iou(areas)[:4].tolist() == [2 / 4, 2 / 4, 0, 0]  # class 2 is missed, class 3 only predicted: both are 0
    assert math.isnan(iou(areas)[4])  # neither true nor predicted
    assert class_accuracy(areas)[:3].tolist() == [2 / 3, 2 / 3, 0]
    assert np.isnan(class_accuracy(areas)[3:]).all()
    assert scores(areas) == pytest.approx(
        {"miou": 1 / 4, "pixel_accuracy": 4 / 7, "mean_accuracy": (2 / 3 + 2 / 3 + 0) / 3}
    )


def test_equals_a_brute_force_count(maps):
    pairs = [(p, t) for p, t in zip(*(x.flatten().tolist() for x in maps), strict=True) if t >= 0]
    areas = count_areas(*maps, 7)
    for c in range(7):
        both, either = sum(p == t == c for p, t in pairs), sum(c in (p, t) for p, t in pairs)
        recalled = [p == c for p, t in pairs if t == c]
        assert iou(areas)[c] == pytest.approx(both / either if either else math.nan, nan_ok=True)
        assert class_accuracy(areas)[c] == pytest.approx(np.mean(recalled) if recalled else math.nan, nan_ok=True)
    assert scores(areas)["pixel_accuracy"] == pytest.approx(np.mean([p == t for p, t in pairs]))


def test_equals_torchmetrics(maps):
    areas = count_areas(*maps, 7)
    theirs = {
        "miou": MulticlassJaccardIndex(7, average="macro", ignore_index=-1),
        "pixel_accuracy": MulticlassAccuracy(7, average="micro", ignore_index=-1),
        "mean_accuracy": MulticlassAccuracy(7, average="macro", ignore_index=-1),  # every predicted class occurs here
    }
    assert scores(areas) == pytest.approx(
        {name: float(metric(*map(torch.from_numpy, maps))) for name, metric in theirs.items()}
    )
    matrix = MulticlassConfusionMatrix(7, ignore_index=-1)(*map(torch.from_numpy, maps))
    assert confusion_matrix(*maps, 7).tolist() == matrix.tolist()


def test_areas_add_up_over_images_and_follow_from_the_confusion_matrix(maps):
    areas = count_areas(*maps, 7)
    assert np.array_equal(areas, sum(count_areas(p, t, 7) for p, t in zip(*maps, strict=True)))
    assert np.array_equal(areas, areas_of_confusion(confusion_matrix(*maps, 7)))


def test_a_class_predicted_but_absent_counts_in_the_iou_and_not_in_the_recall():
    areas = count_areas(np.array([[0, 0, 3, 1]]), np.array([[0, 0, 0, 1]]), 5)
    found = scores(areas)
    assert found["miou"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["mean_accuracy"] == pytest.approx((2 / 3 + 1) / 2)  # there is no pixel of class 3 to be missed
    assert found["pixel_accuracy"] == 3 / 4


def test_a_confusion_matrix_by_hand():
    target = np.array([[0, 0, 1], [1, 1, -1]])
    prediction = np.array([[0, 1, 1], [1, 2, 2]])
    found = confusion_matrix(prediction, target, 4)
    assert found.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert areas_of_confusion(found).tolist() == [[1, 2, 0, 0], [1, 3, 1, 0], [2, 3, 0, 0]]
    np.testing.assert_allclose(iou(areas_of_confusion(found)), [1 / 2, 2 / 4, 0, np.nan])


def test_leading_axes_are_kept():
    areas = np.stack([count_areas(PREDICTION, TARGET, 5), count_areas(TARGET.clip(0), TARGET, 5)])
    assert scores(areas)["miou"].tolist() == [0.25, 1.0]
    assert iou(areas[None]).shape == (1, 2, 5)


def test_ignored_pixels_never_count(maps):
    prediction, target = maps
    elsewhere = np.where(target < 0, -1, prediction)
    assert np.array_equal(count_areas(prediction, target, 7), count_areas(elsewhere, target, 7))


@pytest.mark.filterwarnings("error")
def test_nothing_scored_is_nan_without_a_warning():
    areas = count_areas(PREDICTION, np.full_like(TARGET, -1), 5)
    assert areas.sum() == 0
    assert all(math.isnan(score) for score in scores(areas).values())


@pytest.mark.parametrize("count", [count_areas, confusion_matrix])
def test_invalid_maps_are_errors(count):
    with pytest.raises(ValueError, match="differ"):
        count(PREDICTION[:1], TARGET, 5)
    for prediction, target in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(ValueError, match="outside"):
            count(np.array([prediction]), np.array([target]), 2)


def test_the_metric_gives_the_scores_of_all_batches(maps):
    metric = SegmentationScores(7, sync_on_compute=False)
    for rows in (slice(0, 4), slice(4, 6)):
        metric.update(*(torch.from_numpy(x[rows]) for x in maps))
    assert metric.compute() == scores(count_areas(*maps, 7))
    metric.reset()
    assert metric.areas.sum() == 0
