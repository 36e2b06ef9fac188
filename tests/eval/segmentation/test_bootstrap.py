import math

import numpy as np
import pytest

from eval.segmentation.bootstrap import CHUNK, paired_interval, score_intervals
from pacl.metrics.segmentation import count_areas, scores

SCORES = ("miou", "pixel_accuracy", "mean_accuracy")


def measured(images: int, classes: int, correct: float = 0.6, seed: int = 0) -> np.ndarray:
    """Areas [I, 3, C] of noisy predictions; each image contains a few of the classes."""
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(images):
        target = rng.choice(rng.choice(classes, 3), (12, 10))
        areas.append(
            count_areas(np.where(rng.random(target.shape) < correct, target, rng.integers(classes)), target, classes)
        )
    return np.stack(areas)


def by_loops(areas: np.ndarray, draws: int, seed: int) -> list[dict[str, float]]:
    """The scores of each bootstrap sample, computed with loops over images and classes in Python integers."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        ious, recalls, correct, pixels = [], [], 0, 0
        chosen = rng.integers(len(areas), size=len(areas)).tolist()
        for c in range(areas.shape[2]):
            hits, predicted, true = (sum(int(areas[i, k, c]) for i in chosen) for k in range(3))
            if union := predicted + true - hits:
                ious.append(hits / union)
            if true:
                recalls.append(hits / true)
            correct, pixels = correct + hits, pixels + true
        drawn.append(
            {
                "miou": sum(ious) / len(ious),
                "pixel_accuracy": correct / pixels,
                "mean_accuracy": sum(recalls) / len(recalls),
                "classes": len(ious),
            }
        )
    return drawn


def test_equals_a_direct_loop_across_chunks():
    areas, draws = measured(7, 9), CHUNK + 11
    loops = by_loops(areas, draws, 3)
    found = score_intervals(areas, draws, seed=3)
    for name in SCORES:
        values = sorted(draw[name] for draw in loops)
        assert found[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12), name
    assert len({draw["classes"] for draw in loops}) > 1  # some samples lack a class, which then does not count


def test_paired_equals_a_direct_loop_and_uses_the_same_draws():
    a, b = measured(6, 5, correct=0.7), measured(6, 5, correct=0.6)
    differences = [x["miou"] - y["miou"] for x, y in zip(by_loops(a, 90, 0), by_loops(b, 90, 0), strict=True)]
    assert paired_interval(a, b, draws=90) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12)
    assert paired_interval(a, a) == (0, 0)
    low, high = paired_interval(b, a, draws=90)
    assert (-high, -low) == pytest.approx(paired_interval(a, b, draws=90), abs=1e-12)


def test_the_paired_interval_is_narrower_than_both_intervals_suggest():
    rng = np.random.default_rng(0)
    target = [np.where(rng.random((20, 20)) < 0.5, 1, 0) for _ in range(30)]
    hard = rng.uniform(0, 0.5, 30)  # hard images are hard for both methods
    noise = [rng.random((20, 20)) for _ in range(30)]
    a, b = (
        np.stack(
            [count_areas(np.where(n < h + extra, 1 - t, t), t, 2) for t, h, n in zip(target, hard, noise, strict=True)]
        )
        for extra in (0.0, 0.03)
    )
    low, high = paired_interval(a, b)
    assert 0 < low < high < 0.1
    a_low, a_high = score_intervals(a)["miou"]
    assert high - low < (a_high - a_low) / 3


@pytest.mark.parametrize("images", [1, 12])
def test_equal_images_give_an_interval_of_no_width(images):
    areas = measured(1, 6).repeat(images, axis=0)
    point = scores(areas.sum(0))
    for name, (low, high) in score_intervals(areas, draws=70).items():
        assert low == high == pytest.approx(float(point[name]), abs=1e-12)


def test_intervals_contain_the_score_and_grow_with_the_level():
    areas = measured(40, 6)
    wide, narrow = score_intervals(areas), score_intervals(areas, level=0.5)
    for name, point in scores(areas.sum(0)).items():
        assert wide[name][0] < narrow[name][0] < point < narrow[name][1] < wide[name][1]


def test_intervals_contain_the_true_score_about_as_often_as_the_level():
    rng = np.random.default_rng(0)
    inside, trials = 0, 200
    for _ in range(trials):
        correct = rng.binomial(50, rng.beta(4, 4, size=60))  # of 50 pixels per image; expected accuracy 0.5
        areas = np.zeros((60, 3, 1), np.int64)
        areas[:, 0, 0], areas[:, 1, 0], areas[:, 2, 0] = correct, correct, 50
        low, high = score_intervals(areas, draws=200)["pixel_accuracy"]
        inside += low <= 0.5 <= high
    assert 0.88 < inside / trials < 0.99


def test_the_same_seed_gives_the_same_interval():
    areas = measured(9, 4)
    assert score_intervals(areas, seed=1) == score_intervals(areas, seed=1)
    assert score_intervals(areas, seed=1) != score_intervals(areas, seed=2)


@pytest.mark.filterwarnings("error")
def test_nothing_scored_is_nan():
    assert all(math.isnan(x) for pair in score_intervals(np.zeros((3, 3, 4), np.int64), 5).values() for x in pair)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="0 images"):
        score_intervals(np.zeros((0, 3, 4), np.int64))
    with pytest.raises(ValueError, match="0 draws"):
        score_intervals(measured(2, 3), draws=0)
    with pytest.raises(ValueError, match="not of the same images"):
        paired_interval(measured(2, 3), measured(3, 3))
    with pytest.raises(ValueError, match="exactly"):
        score_intervals(np.full((2, 3, 1), 2**52))
