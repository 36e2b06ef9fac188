"""Linear probes: splits have the right sizes and depend on the seed, the search finds the best C."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pacl.classification import logistic
from pacl.classification.few_shot import possible_shots
from pacl.classification.logistic import (
    ALL,
    Examples,
    choose_c,
    fit_logistic,
    fit_temperature,
    log_softmax,
    make_splits,
    split_examples,
    train_classifier,
)
from pacl.errors import ArgumentError, UserError

NAMES = ["cat", "dog", "owl"]
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [30, 25, 20]))


def test_a_class_with_two_images_is_needed_whatever_the_shots() -> None:
    """Nobody named shots, so that the error is about the images."""
    for split in (
        lambda: split_examples(np.arange(3), ALL, 0, NAMES),
        lambda: possible_shots(np.arange(3), NAMES),
        lambda: possible_shots(np.array([0, 0, 1, 1]), NAMES),
    ):
        with pytest.raises(UserError) as error:
            split()
        assert not isinstance(error.value, ArgumentError)


def blobs(count: int, seed: int, distance: float = 4.0, noise: int = 0) -> Examples:
    """Three Gaussian classes at the corners of a triangle; ``noise`` further features carry no information."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = rng.normal(size=(count, 2 + noise))
    features[:, :2] += distance * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return Examples(features.astype(np.float32), labels)


@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_shots_have_the_right_number_and_are_disjoint_from_validation(shots):
    fit, validation = split_examples(LABELS, shots, 0, NAMES)
    assert np.bincount(LABELS[fit]).tolist() == [shots] * 3
    assert np.bincount(LABELS[validation]).tolist() == [min(shots, 4)] * 3
    assert not set(fit) & set(validation)


def test_splits_depend_on_the_seed_and_are_nested():
    again = [split_examples(LABELS, 4, seed, NAMES)[0].tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    assert set(split_examples(LABELS, 2, 0, NAMES)[0]) < set(again[0]) < set(split_examples(LABELS, 8, 0, NAMES)[0])


def test_a_run_splits_all_examples_with_the_first_seed_only():
    splits = make_splits(LABELS, NAMES, ["2", 1, 2], [3, 0, 3])
    assert splits.seeds == {2: [3, 0], 1: [3, 0]}
    assert splits.needed.tolist() == sorted({int(i) for pair in splits.indices.values() for part in pair for i in part})
    every = make_splits(LABELS, NAMES, ["all"], [3, 0])
    assert every.seeds == {ALL: [3]}
    assert len(every.needed) == len(LABELS)


def test_a_fifth_of_all_examples_is_for_validation():
    fit, validation = split_examples(LABELS, ALL, 0, NAMES)
    assert sorted([*fit, *validation]) == list(range(75))
    assert np.bincount(LABELS[validation]).tolist() == [6, 5, 4]


def test_a_class_with_too_few_examples_is_named():
    assert split_examples(LABELS, 16, 0, NAMES)  # the owls have just enough: 16 and 4
    with pytest.raises(UserError, match="shots 16: class 'owl' has only 19"):
        split_examples(np.delete(LABELS, np.flatnonzero(LABELS == 2)[0]), 16, 0, NAMES)
    with pytest.raises(UserError, match="'owl'"):
        split_examples(LABELS[LABELS < 2], ALL, 0, NAMES)


def test_small_classes_have_one_validation_example_and_single_ones_none():
    fit, validation = split_examples(np.array([0, 0, 0, 1, 1, 2]), ALL, 0, NAMES)
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert (np.bincount(labels[fit]).tolist(), np.bincount(labels[validation]).tolist()) == ([2, 1, 1], [1, 1])


def test_the_search_finds_the_peak_to_an_eighth_of_a_decade(monkeypatch):
    """A fake classifier whose accuracy has a single maximum, at C = 10 ** 1.375."""
    labels = np.zeros(1000, np.int64)
    tried = []

    def fake(train, C, classes):
        tried.append(C)
        correct = 1000 - int(60 * abs(np.log10(C) - 1.375))

        def classify(features):
            scores = np.zeros((1000, 2))
            scores[:correct, 0] = 1
            scores[correct:, 1] = 1
            return scores

        return classify

    monkeypatch.setattr(logistic, "fit_logistic", fake)
    examples = Examples(np.zeros((1000, 1), np.float32), np.append(labels[:-1], 1))
    C, _ = choose_c(examples, Examples(examples.features, labels))
    assert np.log10(C) == pytest.approx(1.375)
    assert len(tried) == len(set(tried)) == 15  # 7, and 2 at each of 4 finer steps
    assert all(round(8 * np.log10(value), 6).is_integer() for value in tried)


def test_the_lower_loss_decides_between_equal_accuracies():
    """Well separated classes: nearly every C has an accuracy of 100 %, and a weak penalty has the lowest loss."""
    train, validation = blobs(60, 0, distance=50), blobs(30, 1, distance=50)
    C, accuracy = choose_c(train, validation)
    assert accuracy == 100
    assert C > 1e-3


def test_probabilities_are_calibrated_and_accuracy_is_as_it_was():
    """A penalty so strong that all probabilities are nearly even, and classes so far apart that none need be."""
    for distance, C in ((4, 1e-5), (2, 1e5)):
        train, validation, test = (blobs(60, 0, distance, 20), blobs(60, 1, distance, 20), blobs(3000, 2, distance, 20))
        raw = fit_logistic(train, C, 3)
        temperature = fit_temperature(raw, validation)
        before, after = raw(test.features), raw(test.features) / temperature
        rows = np.arange(len(test.labels))
        losses = [-log_softmax(scores)[rows, test.labels].mean() for scores in (before, after)]
        assert losses[1] < 0.8 * losses[0]
        right = (after.argmax(1) == test.labels).mean()
        assert np.exp(log_softmax(after)).max(1).mean() == pytest.approx(right, abs=0.1)


def test_right_answers_alone_do_not_make_a_probe_certain():
    train, validation = blobs(60, 0, distance=50), blobs(12, 1, distance=50)
    trained = train_classifier(train, validation, 3, refit=True)
    assert trained.validation == 100
    sure = np.exp(log_softmax(trained.classifier(validation.features))).max(1)
    assert 0.9 < sure.mean() < 0.999  # 12 right answers of 12


def test_the_temperature_leaves_out_classes_without_training_examples():
    train, validation = blobs(60, 0), blobs(30, 1)
    two = fit_logistic(train[np.flatnonzero(train.labels != 1)], 1.0, 3)
    temperature = fit_temperature(two, validation)
    assert 0.1 < temperature < 10
    only = validation[np.flatnonzero(validation.labels == 1)]
    assert fit_temperature(two, only) == 1


def test_c_is_small_where_features_are_mostly_noise():
    """60 examples in 202 dimensions: without a penalty the classifier overfits to the noise."""
    train, validation, test = (blobs(60, 0, 3, 200), blobs(300, 1, 3, 200), blobs(3000, 2, 3, 200))
    C, _ = choose_c(train, validation)
    assert C < 1

    def accuracy(value: float) -> float:
        return float((fit_logistic(train, value, 3)(test.features).argmax(1) == test.labels).mean())

    assert accuracy(C) >= accuracy(1e6)


def test_a_probe_separates_well_separated_classes_and_is_deterministic():
    train, test = blobs(120, 0, distance=12), blobs(90, 1, distance=12)
    for shots in (4, ALL):
        fit, validation = split_examples(train.labels, shots, 0, NAMES)
        found = train_classifier(train[fit], train[validation], 3, refit=shots == ALL)
        again = train_classifier(train[fit], train[validation], 3, refit=shots == ALL)
        scores = found.classifier(test.features)
        assert (scores.argmax(1) == test.labels).mean() > 0.99
        assert (scores == again.classifier(test.features)).all()
        assert (found.C, found.validation) == (again.C, again.validation)


def test_refitting_uses_the_validation_examples(monkeypatch):
    fitted = []
    original = fit_logistic
    monkeypatch.setattr(
        logistic, "fit_logistic", lambda train, C, n: fitted.append(len(train.labels)) or original(train, C, n)
    )
    data = blobs(60, 0)
    fit, validation = data[np.arange(48)], data[np.arange(48, 60)]
    train_classifier(fit, validation, 3, refit=False)
    assert set(fitted) == {48}
    fitted.clear()
    train_classifier(fit, validation, 3, refit=True)
    assert (set(fitted[:-1]), fitted[-1]) == ({48}, 60)


def test_a_class_without_training_examples_is_never_predicted():
    data = blobs(60, 0, distance=12)
    two = data[np.flatnonzero(data.labels != 1)]
    scores = fit_logistic(two, 1.0, 3)(data.features)
    assert scores.shape == (60, 3)
    assert (scores.argmax(1) != 1).all()
    assert (scores.argmax(1) == data.labels)[data.labels != 1].all()
    with pytest.raises(UserError, match="two classes"):
        fit_logistic(data[np.flatnonzero(data.labels == 1)], 1.0, 3)


def test_probabilities_equal_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    data = blobs(60, 0)
    reference = LogisticRegression(C=0.5, max_iter=1000).fit(data.features, data.labels)
    scores = torch.from_numpy(fit_logistic(data, 0.5, 3)(data.features))
    assert torch.allclose(
        scores.softmax(1), torch.from_numpy(reference.predict_proba(data.features)).double(), atol=1e-6
    )


def test_one_shot_is_no_warning(recwarn):
    """scikit-learn takes labels that are nearly all different for a regression."""
    rng = np.random.default_rng(0)
    examples = Examples(rng.normal(size=(40, 8)).astype(np.float32), np.arange(40))
    fit_logistic(examples, 1.0, 40)
    assert not recwarn.list


def test_a_missing_scikit_learn_is_reported(monkeypatch):
    monkeypatch.setattr(logistic.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        logistic.check_installed()
