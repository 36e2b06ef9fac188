"""Draws are exact and seeded, C is found where it is best, and a probe separates what can be separated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eval.classification import linear_probe
from eval.classification.features import Loading
from eval.classification.image_sets import open_image_set
from eval.classification.linear_probe import (
    ALL,
    Examples,
    choose_c,
    draw,
    draw_shots,
    fit_logistic,
    planned_probes,
    probe,
    probe_results,
)
from eval.classification.results import Setup
from eval.common.result import Result
from pacl.errors import UserError
from pacl.metrics.accuracy import accuracies
from pacl.models.loading import load_model

NAMES = ["cat", "dog", "owl"]
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [30, 25, 20]))


def blobs(count: int, seed: int, distance: float = 4.0, noise: int = 0) -> Examples:
    """Three classes at the corners of a triangle, and features that say nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = rng.normal(size=(count, 2 + noise))
    features[:, :2] += distance * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return Examples(features.astype(np.float32), labels)


@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_shots_are_exact_and_apart_from_what_is_validated_on(shots):
    fit, validation = draw_shots(LABELS, shots, 0, NAMES)
    assert np.bincount(LABELS[fit]).tolist() == [shots] * 3
    assert np.bincount(LABELS[validation]).tolist() == [min(shots, 4)] * 3
    assert not set(fit) & set(validation)


def test_draws_follow_their_seed_and_are_nested():
    again = [draw_shots(LABELS, 4, seed, NAMES)[0].tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    assert set(draw_shots(LABELS, 2, 0, NAMES)[0]) < set(again[0]) < set(draw_shots(LABELS, 8, 0, NAMES)[0])


def test_a_run_draws_all_examples_once_and_knows_what_it_needs():
    draws = draw(LABELS, NAMES, ["2", "1", "2"], [3, 0, 3])
    assert draws.seeds == {2: [3, 0], 1: [3, 0]}
    assert draws.needed.tolist() == sorted({int(i) for pair in draws.drawn.values() for part in pair for i in part})
    every = draw(LABELS, NAMES, ["all"], [3, 0])
    assert every.seeds == {ALL: [3]}
    assert len(every.needed) == len(LABELS)


def test_all_examples_are_split_in_five():
    fit, validation = draw_shots(LABELS, ALL, 0, NAMES)
    assert sorted([*fit, *validation]) == list(range(75))
    assert np.bincount(LABELS[validation]).tolist() == [6, 5, 4]


def test_a_class_with_too_few_examples_is_named():
    assert draw_shots(LABELS, 16, 0, NAMES)  # the owls have just enough: 16 and 4
    with pytest.raises(UserError, match="shots 16: class 'owl' has 19"):
        draw_shots(np.delete(LABELS, np.flatnonzero(LABELS == 2)[0]), 16, 0, NAMES)
    with pytest.raises(UserError, match="'owl'"):
        draw_shots(LABELS[LABELS < 2], ALL, 0, NAMES)
    with pytest.raises(UserError, match="shots all"):
        draw_shots(np.array([0, 1, 2]), ALL, 0, NAMES)


def test_the_search_finds_the_peak_to_an_eighth_of_a_decade(monkeypatch):
    """A classifier whose accuracy has one peak over C, at 10 ** 1.375."""
    labels = np.zeros(1000, np.int64)
    tried = []

    def fake(train, C, classes):
        tried.append(C)
        right = 1000 - int(60 * abs(np.log10(C) - 1.375))

        def classify(features):
            scores = np.zeros((1000, 2))
            scores[:right, 0] = 1
            scores[right:, 1] = 1
            return scores

        return classify

    monkeypatch.setattr(linear_probe, "fit_logistic", fake)
    examples = Examples(np.zeros((1000, 1), np.float32), np.append(labels[:-1], 1))
    C, _ = choose_c(examples, Examples(examples.features, labels))
    assert np.log10(C) == pytest.approx(1.375)
    assert len(tried) == len(set(tried)) == 15  # 7, and 2 at each of 4 finer steps
    assert all(round(8 * np.log10(value), 6).is_integer() for value in tried)


def test_of_equal_accuracies_the_lower_loss_decides():
    """Data far apart: nearly every C is right on all of it, and a weak penalty is the surest of them."""
    train, validation = blobs(60, 0, distance=50), blobs(30, 1, distance=50)
    C, accuracy = choose_c(train, validation)
    assert accuracy == 100
    assert C > 1e-3


def test_c_is_small_where_features_are_mostly_noise():
    """60 examples in 202 dimensions: without a penalty the noise is learnt by heart."""
    train, validation, test = (blobs(60, 0, 3, 200), blobs(300, 1, 3, 200), blobs(3000, 2, 3, 200))
    C, _ = choose_c(train, validation)
    assert C < 1

    def right(value: float) -> float:
        return float((fit_logistic(train, value, 3)(test.features).argmax(1) == test.labels).mean())

    assert right(C) >= right(1e6)


def test_a_probe_separates_what_can_be_separated():
    train, test = blobs(120, 0, distance=12), blobs(90, 1, distance=12)
    for shots in (4, ALL):
        fit, validation = draw_shots(train.labels, shots, 0, NAMES)
        found = probe(train[fit], train[validation], test, 3, refit=shots == ALL)
        again = probe(train[fit], train[validation], test, 3, refit=shots == ALL)
        assert accuracies(found.counts)["top1"] > 99
        assert found.counts.sum() == 90
        assert (found.counts == again.counts).all()
        assert (found.C, found.validation) == (again.C, again.validation)


def test_refitting_uses_the_validation_examples(monkeypatch):
    fitted = []
    original = fit_logistic
    monkeypatch.setattr(
        linear_probe, "fit_logistic", lambda train, C, n: fitted.append(len(train.labels)) or original(train, C, n)
    )
    data = blobs(60, 0)
    fit, validation = data[np.arange(48)], data[np.arange(48, 60)]
    probe(fit, validation, data, 3, refit=False)
    assert set(fitted) == {48}
    fitted.clear()
    probe(fit, validation, data, 3, refit=True)
    assert (set(fitted[:-1]), fitted[-1]) == ({48}, 60)


def test_two_classes_and_one_that_was_never_seen():
    data = blobs(60, 0, distance=12)
    two = data[np.flatnonzero(data.labels != 1)]
    scores = fit_logistic(two, 1.0, 3)(data.features)
    assert scores.shape == (60, 3)
    assert (scores.argmax(1) != 1).all()
    assert (scores.argmax(1) == data.labels)[data.labels != 1].all()
    with pytest.raises(UserError, match="two classes"):
        fit_logistic(data[np.flatnonzero(data.labels == 1)], 1.0, 3)


def test_logits_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    data = blobs(60, 0)
    reference = LogisticRegression(C=0.5, max_iter=1000).fit(data.features, data.labels)
    scores = torch.from_numpy(fit_logistic(data, 0.5, 3)(data.features))
    assert torch.allclose(
        scores.softmax(1), torch.from_numpy(reference.predict_proba(data.features)).double(), atol=1e-6
    )


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(linear_probe.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        linear_probe.check_installed()


# --- Results ----------------------------------------------------------------------------------------


def probed(colour_photos: Path, clip: str, out: Path, shots: list[str], seeds: list[int]) -> list[Result]:
    train, test = (open_image_set("custom", colour_photos, split) for split in ("train", "test"))
    setup = Setup.of(load_model(clip), "tiny", Loading(batch=5, workers=0))
    parts = (train, test, draw(train.labels, train.keys, shots, seeds), ["pooled"])
    return probe_results(setup, *parts, planned_probes(setup, *parts), out)


def test_few_shot_runs_embed_only_what_they_draw(colour_photos, tiny_clip, tmp_path):
    probed(colour_photos, tiny_clip, tmp_path, ["2"], [0])
    (kept,) = tmp_path.glob("custom-train-*")
    assert len(load_file(kept)["pooled"]) == 3 * (2 + 2)


def test_scores_are_means_over_seeds_with_their_spread(colour_photos, tiny_clip, tmp_path):
    two, every = probed(colour_photos, tiny_clip, tmp_path, ["2", "all"], [0, 1, 0])
    found = [each["top1"] for each in two.details["seeds"]]
    assert [each["seed"] for each in two.details["seeds"]] == two.protocol["seeds"] == [0, 1]
    assert two.scores["top1"] == pytest.approx(np.mean(found))
    assert two.details["deviation"]["top1"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5)
    assert (two.protocol["name"], every.protocol["name"]) == ("few-shot", "linear probe")
    assert every.protocol["seeds"] == [0]  # all examples are the same ones for every seed
    assert every.details["deviation"]["top1"] is None
    assert two.intervals == every.intervals == {}
    assert (two.protocol["train_images"], two.images) == (36, 12)
