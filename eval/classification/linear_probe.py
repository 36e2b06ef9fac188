"""Linear probes: accuracy of a linear classifier on frozen features, trained on a few or all examples of each class.

As in the CLIP paper (Radford et al., 2021, appendix A.3): scikit-learn's logistic regression, L-BFGS, at most 1,000
iterations, the strength of its L2 penalty chosen on a validation split.

The choice of C: the best of 10^-6, 10^-4, ..., 10^6, then its neighbours at half the distance, down to steps of an
eighth of a decade: the paper's search for the peak among 96 values. The best has the highest validation accuracy; among
equal ones, which are common on small validation splits, the lowest validation loss.

All examples: a fifth of each class is the validation split, and the final classifier is trained on everything. k shots:
k examples a class, drawn by the seed, and min(k, 4) others for validation, on which the classifier is not trained. The
draws of a seed are nested: 4 shots contain the 2 shots.

Shapes: N examples, F features, C classes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.classification.features import cached_features
from eval.classification.image_sets import ImageSet
from eval.classification.results import DIGITS, Setup
from eval.common.progress import tracked
from eval.common.result import Result
from pacl.errors import ArgumentError, UserError
from pacl.metrics.accuracy import accuracies, count_ranks

ALL = "all"
Shots = int | str
MAX_ITERATIONS = 1000
EXPONENTS = (-6.0, 6.0)  # of C, as powers of ten
COARSE, FINE = 2.0, 1 / 8  # steps of the exponent
VALIDATION_SHOTS = 4
VALIDATION_PART = 5  # one in five, where all examples are used
TEST_CHUNK = 4096


@dataclass(frozen=True)
class Examples:
    """Features float32 [N, F] and classes int64 [N]."""

    features: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        return self.features, self.labels

    def __getitem__(self, indices: np.ndarray) -> Examples:
        return Examples(self.features[indices], self.labels[indices])


@dataclass(frozen=True)
class Probe:
    """The result of one probe.

    Attributes:
        counts: `pacl.metrics.accuracy.count_ranks` on the test examples, int64 [C, 3].
        C: the inverse strength of the penalty.
        validation: accuracy on the validation split at that C, in percent.
    """

    counts: np.ndarray = field(repr=False)
    C: float
    validation: float


def check_installed() -> None:
    """Raise a `UserError` unless scikit-learn is installed."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError('linear probes need scikit-learn: pip install "pacl[eval]"')


def draw_shots(labels: np.ndarray, shots: Shots, seed: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Draw examples for training and validation.

    Args:
        labels: int64 [N] of all training examples.
        shots: examples a class, or ``all``.
        seed: of the draw.
        names: of the C classes, for messages.

    Returns:
        Indices for training and indices for validation, sorted and disjoint.

    Raises:
        UserError: a class has no examples.
        ArgumentError: a class has too few examples for ``shots``.
    """
    fit: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for label in range(len(names)):
        drawn = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        if not len(drawn):
            raise UserError(f"class {names[label]!r} has no training images to probe with")
        if isinstance(shots, int):
            held = min(shots, VALIDATION_SHOTS)
            if len(drawn) < shots + held:
                reason = f"class {names[label]!r} has {len(drawn)} training images; {shots} and {held} for validation"
                raise ArgumentError("shots", shots, f"{reason} are needed")
            # From both ends, so that draws are nested and the two parts are disjoint.
            fit.append(drawn[:shots])
            validation.append(drawn[len(drawn) - held :])
        else:
            held = len(drawn) // VALIDATION_PART
            fit.append(drawn[held:])
            validation.append(drawn[:held])
    found = np.sort(np.concatenate(fit)), np.sort(np.concatenate(validation))
    if not len(found[1]):
        raise ArgumentError(
            "shots", shots, f"no class has {VALIDATION_PART} training images, of which one is for validation"
        )
    return found


@dataclass(frozen=True)
class Draws:
    """The examples that the probes of a run are trained and validated on.

    Attributes:
        seeds: shots -> seeds; for all examples only the first, which draws the validation split.
        drawn: (shots, seed) -> `draw_shots`.
        needed: int64, indices of all examples that any draw uses, sorted.
    """

    seeds: dict[Shots, list[int]]
    drawn: dict[tuple[Shots, int], tuple[np.ndarray, np.ndarray]] = field(repr=False)
    needed: np.ndarray = field(repr=False)


def draw(labels: np.ndarray, names: Sequence[str], shots: Sequence[str], seeds: Sequence[int]) -> Draws:
    """All draws of a run. They need the labels only, so that errors come before any image is read.

    Args:
        labels: int64 [N] of all training examples.
        names: of the C classes, for messages.
        shots: examples a class, or ``all``.
        seeds: of the draws.

    Raises:
        UserError: as `draw_shots`.
    """
    wanted: list[Shots] = [ALL if each == ALL else int(each) for each in dict.fromkeys(shots)]
    every = list(dict.fromkeys(seeds))
    used = {each: every[:1] if each == ALL else every for each in wanted}
    drawn = {(each, seed): draw_shots(labels, each, seed, names) for each in wanted for seed in used[each]}
    return Draws(used, drawn, np.unique(np.concatenate([indices for pair in drawn.values() for indices in pair])))


def probe(fit: Examples, validation: Examples, test: Examples, classes: int, *, refit: bool) -> Probe:
    """Choose C on the validation examples, train a linear classifier and measure it on the test examples.

    Args:
        fit: training examples.
        validation: examples to choose C on.
        test: examples to measure on.
        classes: C.
        refit: whether the measured classifier is trained on the validation examples as well.
    """
    C, accuracy = choose_c(fit, validation)
    if refit:
        fit = Examples(*(np.concatenate(pair) for pair in zip(fit.parts, validation.parts, strict=True)))
    classify = fit_logistic(fit, C, classes)
    counts = np.zeros((classes, 3), dtype=np.int64)
    for first in range(0, len(test.labels), TEST_CHUNK):  # scores [N, C] are held for a chunk only
        features, labels = (part[first : first + TEST_CHUNK] for part in test.parts)
        counts += count_ranks(torch.from_numpy(classify(features)), torch.from_numpy(labels))
    return Probe(counts, C, accuracy)


def choose_c(fit: Examples, validation: Examples) -> tuple[float, float]:
    """The best C on the validation examples (see the module) and its accuracy there, in percent."""
    classes = int(max(fit.labels.max(), validation.labels.max())) + 1
    tried: dict[float, tuple[float, float]] = {}  # exponent -> accuracy, -loss

    def merit(exponent: float) -> tuple[float, float]:
        if exponent not in tried:
            scores = fit_logistic(fit, 10**exponent, classes)(validation.features)
            own = scores[np.arange(len(scores)), validation.labels]
            top = scores.max(axis=1)
            loss = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - own
            counts = count_ranks(torch.from_numpy(scores), torch.from_numpy(validation.labels))
            tried[exponent] = accuracies(counts)["top1"], -float(loss.mean())
        return tried[exponent]

    low, high = EXPONENTS
    best = max(np.arange(low, high + COARSE, COARSE).tolist(), key=merit)
    step = COARSE / 2
    while step >= FINE:
        best = max((e for e in (best, best - step, best + step) if low <= e <= high), key=merit)
        step /= 2
    return float(10**best), tried[best][0]


def fit_logistic(train: Examples, C: float, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """Train a classifier: features [N, F] -> logits [N, C].

    A class without training examples gets -1e30.
    """
    check_installed()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(train.labels)
    if len(present) < 2:
        raise UserError("a linear probe needs training images of two classes or more")
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)  # L-BFGS and an L2 penalty are its defaults
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties reach the limit, as in the paper
        model.fit(*train.parts)

    def classify(features: np.ndarray) -> np.ndarray:
        found = model.decision_function(features)
        if found.ndim == 1:  # two classes: only the difference of their logits
            found = np.stack([-found / 2, found / 2], axis=1)
        scores = np.full((len(features), classes), -1e30)
        scores[:, present] = found
        return scores

    return classify


# --- Results ------------------------------------------------------------------------------------------


def planned_probes(setup: Setup, train: ImageSet, test: ImageSet, draws: Draws, kinds: Sequence[str]) -> list[Result]:
    """A result for each kind of features and number of shots, without figures."""
    found = []
    digest = train.subset(draws.needed).digest()[:DIGITS]
    for kind, shots in _runs(draws, kinds):
        protocol: dict[str, Any] = {
            "name": "linear probe" if shots == ALL else "few-shot",
            "names": None,
            "shots": shots,
            "seeds": draws.seeds[shots],
            "features": kind,
            "train_split": train.split,
            "train_images": len(train),
            "train_full": train.full,
            "train_sha256": digest,
            "classifier": "scikit-learn LogisticRegression, L-BFGS, 1,000 iterations; C by validation accuracy",
        }
        found.append(setup.planned(test, f"probe {kind} {shots}", protocol))
    return found


def probe_results(
    setup: Setup, train: ImageSet, test: ImageSet, draws: Draws, kinds: Sequence[str], planned: Sequence[Result],
    folder: Path,
) -> list[Result]:  # fmt: skip
    """The results of `planned_probes` with their figures: means over the seeds.

    Args:
        setup: model and settings.
        train: the images that examples are drawn from.
        test: the images that are measured.
        draws: the examples drawn.
        kinds: of features, see `eval.classification.features.features`.
        planned: the results to fill in.
        folder: where features are cached.
    """
    parts = train.subset(draws.needed), test
    start = time.perf_counter()
    train_features, test_features = (
        cached_features(setup.model, images, folder, setup.loading, f"{images.benchmark.name} {images.split}")
        for images in parts
    )
    embedding = time.perf_counter() - start
    results = []
    runs = list(zip(_runs(draws, kinds), planned, strict=True))
    for (kind, shots), result in tracked(runs, "probes"):
        examples = Examples(train_features[kind].numpy(), train.labels[draws.needed])
        target = Examples(test_features[kind].numpy(), test.labels)
        found: list[Probe] = []
        start = time.perf_counter()
        for seed in draws.seeds[shots]:
            fit, validation = (examples[np.searchsorted(draws.needed, part)] for part in draws.drawn[shots, seed])
            found.append(probe(fit, validation, target, len(test.keys), refit=shots == ALL))
        speed = {
            "images_per_second": sum(map(len, parts)) / embedding,  # training and test; cached features are only read
            "fitting_seconds": time.perf_counter() - start,
        }
        measured = setup.measured(result, test, np.sum([each.counts for each in found], axis=0), speed)
        details = _over_seeds(found, draws.seeds[shots])
        # Intervals of the added counts of several seeds would be too narrow.
        results.append(dataclasses.replace(measured, details={**measured.details, **details}, intervals={}))
    return results


def _runs(draws: Draws, kinds: Sequence[str]) -> list[tuple[str, Shots]]:
    return [(kind, shots) for kind in dict.fromkeys(kinds) for shots in draws.seeds]


def _over_seeds(found: Sequence[Probe], seeds: Sequence[int]) -> dict[str, Any]:
    """Each seed's scores and C, and the standard deviation of the scores."""
    every = [accuracies(each.counts) for each in found]
    return {
        "seeds": [
            {"seed": seed, "C": each.C, "validation_top1": each.validation, **{k: float(v) for k, v in scores.items()}}
            for seed, each, scores in zip(seeds, found, every, strict=True)
        ],
        "deviation": {
            name: float(np.std([scores[name] for scores in every], ddof=1)) if len(every) > 1 else None
            for name in every[0]
        },
    }
