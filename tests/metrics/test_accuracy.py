"""Accuracies against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pacl.metrics.accuracy import accuracies, accuracy_intervals, count_ranks, per_class, ranks, rate_intervals

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


def test_intervals_equal_those_of_resampling_images():
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(0, 7, 300))
    scores = torch.from_numpy(rng.random((300, 7))) + torch.nn.functional.one_hot(labels, 7) * 0.3
    counts = count_ranks(scores, labels)
    found = accuracy_intervals(counts)
    assert found == accuracy_intervals(counts)
    resampled = []
    for _ in range(1000):
        some = torch.from_numpy(rng.integers(0, 300, 300))
        resampled.append(accuracies(count_ranks(scores[some], labels[some])))
    for name, value in accuracies(counts).items():
        low, high = found[name]
        expected = np.percentile([each[name] for each in resampled], [2.5, 97.5])
        assert low < value < high
        assert [low, high] == pytest.approx(expected.tolist(), abs=1.0)


def test_perfect_accuracy_has_an_interval_of_no_width():
    counts = np.array([[4, 0, 0], [2, 0, 0]])
    assert accuracy_intervals(counts) == {name: [100.0, 100.0] for name in ("top1", "top5", "mean_per_class")}


def test_intervals_of_rates_contain_the_means_and_those_of_a_constant_are_points():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], [60, 30, 10])
    rates = (rng.random(100) < np.array([0.9, 0.5, 0, 0.1])[labels]).astype(float)
    found = rate_intervals(rates, labels)
    balanced = np.mean([rates[labels == label].mean() for label in (0, 1, 3)])
    for name, mean in (("top1", rates.mean()), ("mean_per_class", balanced)):
        low, high = found[name]
        assert low < 100 * mean < high
        assert high - low > 5
    assert rate_intervals(np.full(10, 0.5), labels[:10]) == {"top1": (50, 50), "mean_per_class": (50, 50)}
