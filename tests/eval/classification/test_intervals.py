"""Intervals of accuracies against resampled images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.classification.intervals import accuracy_intervals, rate_intervals
from pacl.metrics.accuracy import accuracies, count_ranks, share_interval


@pytest.mark.parametrize("classes", [[100] * 3, [200, 70, 30]])
def test_intervals_of_many_images_are_near_those_of_resampling_images(classes):
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(np.repeat(np.arange(3), classes))
    scores = torch.from_numpy(rng.random((300, 3))) + torch.nn.functional.one_hot(labels, 3) * 0.3
    counts = count_ranks(scores, labels)
    found = accuracy_intervals(counts)
    resampled = []
    for _ in range(1000):
        some = torch.from_numpy(rng.integers(0, 300, 300))
        resampled.append(accuracies(count_ranks(scores[some], labels[some])))
    for name in ("top1", "mean_per_class"):
        low, high = found[name]
        expected = np.percentile([each[name] for each in resampled], [2.5, 97.5])
        assert low < accuracies(counts)[name] < high
        assert [low, high] == pytest.approx(expected.tolist(), abs=1.5)


def test_perfect_accuracy_of_few_images_is_uncertain():
    low, _ = share_interval(1, 6)
    found = accuracy_intervals(np.array([[4, 0, 0], [2, 0, 0]]))
    assert found["top1"] == found["top5"] == pytest.approx([100 * low, 100])
    assert found["mean_per_class"][0] < found["top1"][0]  # of two classes, one with two images only


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
