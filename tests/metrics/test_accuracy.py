"""Accuracies against counts made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pacl.metrics.accuracy import accuracies, accuracy_intervals, count_ranks, per_class, ranks

# Seven classes, so that a class can be missed by the first five; class 6 has no picture.
SCORES = torch.tensor(
    [
        [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],  # of 0: first
        [0.5, 0.9, 0.2, 0.3, 0.4, 0.1, 0.0],  # of 0: second
        [0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6],  # of 1: first
        [0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.4],  # of 5: fifth
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.4],  # of 5: last
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
    assert found["mean_per_class"] == pytest.approx(50)  # (1/2 + 1 + 0) / 3, classes without pictures left out
    assert per_class(counts)[:2].tolist() == [0.5, 1]
    assert math.isnan(per_class(counts)[6])


def test_counts_of_parts_add_up():
    parts = [count_ranks(SCORES[i : i + 2], LABELS[i : i + 2]) for i in range(0, 5, 2)]
    assert (sum(parts) == count_ranks(SCORES, LABELS)).all()


def test_of_equal_scores_the_lower_class_comes_first_as_argmax_has_it():
    scores = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.1, 0.5, 0.5]])
    labels = torch.tensor([0, 1, 2])
    assert ranks(scores, labels).tolist() == [0, 1, 1]
    assert (ranks(scores, labels) == 0).tolist() == (torch.from_numpy(scores.numpy().argmax(1)) == labels).tolist()


def test_constant_scores_earn_chance():
    counts = count_ranks(torch.zeros(40, 10), torch.arange(40) % 10)
    assert accuracies(counts) == pytest.approx({"top1": 10, "top5": 50, "mean_per_class": 10})


def test_intervals_are_those_of_drawing_images():
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(0, 7, 300))
    scores = torch.from_numpy(rng.random((300, 7))) + torch.nn.functional.one_hot(labels, 7) * 0.3
    counts = count_ranks(scores, labels)
    found = accuracy_intervals(counts)
    assert found == accuracy_intervals(counts)  # the same digits again
    drawn = []
    for _ in range(1000):
        some = torch.from_numpy(rng.integers(0, 300, 300))
        drawn.append(accuracies(count_ranks(scores[some], labels[some])))
    for name, value in accuracies(counts).items():
        low, high = found[name]
        expected = np.percentile([each[name] for each in drawn], [2.5, 97.5])
        assert low < value < high
        assert [low, high] == pytest.approx(expected.tolist(), abs=1.0)


def test_a_sure_thing_has_no_spread():
    counts = np.array([[4, 0, 0], [2, 0, 0]])
    assert accuracy_intervals(counts) == {name: [100.0, 100.0] for name in ("top1", "top5", "mean_per_class")}
