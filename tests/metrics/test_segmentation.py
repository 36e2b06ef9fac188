import math

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from pacl.metrics.segmentation import Confusion, class_iou, mean_accuracy, mean_iou, occurring, pixel_accuracy


def brute_force_iou(prediction: torch.Tensor, target: torch.Tensor, classes: int) -> list[float]:
    """Count pixel by pixel, as one would explain it."""
    pairs = [(p, t) for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True) if t != 255]
    out = []
    for c in range(classes):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        out.append(both / either if either else math.nan)
    return out


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 5, (6, 9, 7), generator=generator)
    target = torch.randint(0, 6, (6, 9, 7), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return prediction, target  # class 6 of 7 occurs nowhere; class 5 only in the targets


def accumulate(prediction: torch.Tensor, target: torch.Tensor, classes: int = 7) -> torch.Tensor:
    metric = Confusion(classes)
    for p, t in zip(prediction.split(4), target.split(4), strict=True):  # ragged: 4 images, then 2
        metric.update(p, t)
    return metric.compute()


def test_equals_a_brute_force_count(maps):
    torch.testing.assert_close(
        class_iou(accumulate(*maps)), torch.tensor(brute_force_iou(*maps, 7)).double(), equal_nan=True
    )


def test_equals_torchmetrics(maps):
    confusion = accumulate(*maps)
    for average in ("macro", "none"):
        theirs = MulticlassJaccardIndex(7, average=average, ignore_index=255)
        theirs.update(*maps)
        ours = torch.tensor(mean_iou(confusion)) if average == "macro" else class_iou(confusion).nan_to_num(0)
        torch.testing.assert_close(ours.float(), theirs.compute(), atol=1e-6, rtol=0)


def test_accuracies_equal_a_brute_force_count(maps):
    pairs = [(p, t) for p, t in zip(*(x.flatten().tolist() for x in maps), strict=True) if t != 255]
    recalls = []
    for c in range(7):
        if own := [p == c for p, t in pairs if t == c]:
            recalls.append(sum(own) / len(own))
    confusion = accumulate(*maps)
    assert len(recalls) == 6
    assert pixel_accuracy(confusion) == pytest.approx(sum(p == t for p, t in pairs) / len(pairs))
    assert mean_accuracy(confusion) == pytest.approx(sum(recalls) / 6)


def test_accuracies_equal_torchmetrics(maps):
    confusion = accumulate(*maps)
    theirs = {}
    for average in ("micro", "macro", "none"):
        metric = MulticlassAccuracy(7, average=average, ignore_index=255)
        metric.update(*maps)
        theirs[average] = metric.compute()
    assert pixel_accuracy(confusion) == pytest.approx(theirs["micro"].item())
    assert mean_accuracy(confusion) == pytest.approx(theirs["macro"].item())  # every predicted class occurs here
    recalls = confusion.diagonal() / confusion.sum(1)
    torch.testing.assert_close(recalls[:6], theirs["none"][:6], atol=1e-6, rtol=0)


def test_a_class_predicted_but_absent_counts_in_the_iou_and_not_in_the_recall():
    target = torch.tensor([[0, 0, 0, 1]])
    prediction = torch.tensor([[0, 0, 3, 1]])
    confusion = accumulate(prediction, target, 5)
    iou = class_iou(confusion)
    assert iou[[0, 1, 3]].tolist() == [2 / 3, 1, 0]
    assert iou[[2, 4]].isnan().all()  # neither here nor there
    theirs = MulticlassJaccardIndex(5, average="macro", ignore_index=255)
    assert mean_iou(confusion) == pytest.approx((2 / 3 + 1 + 0) / 3) == theirs(prediction, target).item()
    assert mean_accuracy(confusion) == pytest.approx((2 / 3 + 1) / 2)  # there is no pixel of class 3 to be missed
    assert pixel_accuracy(confusion) == 3 / 4


def test_an_empty_set_has_no_scores():
    confusion = accumulate(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    assert all(math.isnan(score(confusion)) for score in (mean_iou, pixel_accuracy, mean_accuracy))


def test_hand_computed():
    target = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 255]])
    prediction = torch.tensor([[0, 0, 1, 1], [1, 0, 3, 3]])
    confusion = accumulate(prediction[None], target[None], 5)
    assert class_iou(confusion)[:4].tolist() == [2 / 4, 2 / 4, 0, 0]
    assert math.isnan(class_iou(confusion)[4])  # neither true nor predicted: no say in the mean
    assert mean_iou(confusion) == 0.25
    assert mean_iou(confusion, occurring(confusion)) == pytest.approx(1 / 3)  # class 3 is predicted only
    assert pixel_accuracy(confusion) == pytest.approx(4 / 7)
    assert mean_accuracy(confusion) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_ignored_pixels_never_count(maps):
    prediction, target = maps
    elsewhere = prediction.clone()
    elsewhere[target == 255] = 0
    assert torch.equal(accumulate(prediction, target), accumulate(elsewhere, target))


def test_labels_that_cannot_be_are_errors(maps):
    prediction, target = maps
    with pytest.raises(ValueError, match="outside"):
        Confusion(4).update(prediction, target)
    with pytest.raises(ValueError, match="differ"):
        Confusion(7).update(prediction[:2], target)
