"""Accuracy of linear probes by the number of training images, beside zero-shot classification and chance.

Shapes: N test images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pacl.classification.logistic import ALL, Examples, Shots, Splits, Trained, split_examples, train_classifier
from pacl.errors import ArgumentError
from pacl.metrics.accuracy import effective_images, share_interval

SHOTS = (1, 2, 4, 8, 16, ALL)
"""Training images of each class, where nothing else is asked for."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on test images; all figures are in percent.

    Attributes:
        name: what was measured: ``chance``, ``zero-shot``, or the number of training images of each class.
        top1: share of right answers, the mean over seeds.
        balanced: share of right answers in each class, the mean over classes and seeds.
        intervals: 95 % intervals over test images, by the name of the figure, see
            `pacl.metrics.accuracy.share_interval`; none for chance.
        spread: standard deviation over seeds, by the name of the figure; none for one seed.
        seeds: number of seeds.
    """

    name: str
    top1: float
    balanced: float
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    seeds: int = 1

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "intervals": {name: list(pair) for name, pair in self.intervals.items()}}


def chance(classes: int) -> Accuracy:
    """Guesses at random among the classes."""
    return Accuracy("chance", 100 / classes, 100 / classes)


def accuracy_of(name: str, right: np.ndarray, labels: np.ndarray) -> Accuracy:
    """The accuracy of one classifier, or the mean of those of several seeds.

    Args:
        name: see `Accuracy`.
        right: whether each test image got its class, bool [seeds, N].
        labels: the true classes, int64 [N].
    """
    present, images = np.unique(labels, return_counts=True)
    top1 = 100 * right.mean(axis=1)
    balanced = 100 * np.mean([right[:, labels == label].mean(axis=1) for label in present], axis=0)
    found = {
        "top1": share_interval(top1.mean() / 100, len(labels)),
        "balanced": share_interval(balanced.mean() / 100, effective_images(images)),
    }
    intervals = {key: (100 * low, 100 * high) for key, (low, high) in found.items()}
    several = len(right) > 1
    spread = {"top1": float(top1.std(ddof=1)), "balanced": float(balanced.std(ddof=1))} if several else {}
    return Accuracy(name, float(top1.mean()), float(balanced.mean()), intervals, spread, len(right))


def possible_shots(labels: np.ndarray, names: Sequence[str]) -> tuple[list[Shots], ArgumentError | None]:
    """Those of `SHOTS` for which every class has images enough, and the error of the first that is left out.

    Args:
        labels: classes of all training images, int64.
        names: names of the C classes.

    Raises:
        UserError: no class has two images, or one has none.
    """
    found: list[Shots] = []
    too_few: ArgumentError | None = None
    for shots in SHOTS:
        try:
            split_examples(labels, shots, 0, names)
        except ArgumentError as error:  # too few images for these shots, which nobody asked for
            too_few = too_few or error
        else:
            found.append(shots)
    return found, too_few


def probe_accuracies(
    train: Examples, test: Examples, classes: int, splits: Splits
) -> Iterator[tuple[Shots, int, Trained, np.ndarray]]:
    """Train and test all probes of the splits, from the fewest images to the most.

    Yields:
        Shots, seed, the classifier, and whether it is right about each test image, bool [N].
    """
    for shots, seed in ordered(splits):
        fit, validation = splits.indices[shots, seed]
        trained = train_classifier(train[fit], train[validation], classes, refit=shots == ALL)
        yield shots, seed, trained, trained.classifier(test.features).argmax(axis=1) == test.labels


def ordered(splits: Splits) -> list[tuple[Shots, int]]:
    """(shots, seed) of all probes, from the fewest images to the most."""
    every = sorted(splits.seeds, key=lambda shots: float("inf") if shots == ALL else float(shots))
    return [(shots, seed) for shots in every for seed in splits.seeds[shots]]
