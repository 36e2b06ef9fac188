"""Accuracies against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pacl.metrics.accuracy import (
    accuracies,
    count_ranks,
    effective_images,
    per_class,
    ranks,
    share_interval,
)

# Seven classes, so that a rank can be below 5; class 6 has no images.
SCORES = torch.tensor(
    [
        [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],  # class 0 ranks first
        [0.5, 0.9, 0.2, 0.3, 0.4, 0.1, 0.0],  # class 0 ranks second
        [0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6],  # class 1 ranks first
        [0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.4],  # class 5 ranks fifth
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.4],  # class 5 ranks last
    ]
)
LABELS = torch.tensor([0, 0, 1, 5, 5])


def test_accuracies_by_hand():
    assert ranks(SCORES, LABELS).tolist() == [0, 1, 0, 4, 6]
    counts = count_ranks(SCORES, LABELS)
    assert counts.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]]
    found = accuracies(counts)
    assert found["top1"] == pytest.approx(40)  # 2 of 5
    assert found["top5"] == pytest.approx(80)  # 4 of 5
    assert found["mean_per_class"] == pytest.approx(50)  # (1/2 + 1 + 0) / 3, without classes that have no images
    assert per_class(counts)[:2].tolist() == [0.5, 1]
    assert math.isnan(per_class(counts)[6])


def test_counts_of_batches_add_up():
    parts = [count_ranks(SCORES[i : i + 2], LABELS[i : i + 2]) for i in range(0, 5, 2)]
    assert (sum(parts) == count_ranks(SCORES, LABELS)).all()


def test_the_lower_class_wins_a_tie_as_in_argmax():
    scores = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.1, 0.5, 0.5]])
    labels = torch.tensor([0, 1, 2])
    assert ranks(scores, labels).tolist() == [0, 1, 1]
    assert (ranks(scores, labels) == 0).tolist() == (torch.from_numpy(scores.numpy().argmax(1)) == labels).tolist()


def test_constant_scores_equal_random_guessing():
    counts = count_ranks(torch.zeros(40, 10), torch.arange(40) % 10)
    assert accuracies(counts) == pytest.approx({"top1": 10, "top5": 50, "mean_per_class": 10})


def test_perfect_accuracy_of_few_images_is_uncertain():
    low, high = share_interval(1, 6)
    assert (low, high) == pytest.approx((0.609666, 1.0), abs=1e-5)  # 6 / (6 + 1.96^2)
    assert share_interval(0, 6) == pytest.approx((0, 1 - low))
    assert 99.9 < share_interval(1, 10_000)[0] * 100 < 100


def test_a_share_has_the_interval_of_the_textbook():
    assert share_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_mean_over_classes_of_one_size_is_as_certain_as_one_over_images():
    assert effective_images(np.array([5, 5, 5, 0])) == pytest.approx(15)
    assert effective_images(np.array([1, 99])) == pytest.approx(3.96)
