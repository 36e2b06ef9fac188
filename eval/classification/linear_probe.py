"""Linear probes: accuracy of a linear classifier trained on frozen features, with all or few examples per class.

The classifier is that of the CLIP paper (Radford et al., 2021, appendix A.3): scikit-learn's logistic regression,
trained by L-BFGS for at most 1,000 iterations. C, the inverse strength of its L2 penalty, is chosen on a validation
split.

Search for C: all of 10^-6, 10^-4, ..., 10^6 are tried. Then the step is halved and the two neighbours of the best value
are tried, until the step is an eighth of a decade. The paper searches its 96 values in the same way. The best value is
the one with the highest validation accuracy. On small validation splits several values often have the same accuracy;
the one with the lowest validation loss is then taken.

With all examples, a fifth of each class is used for validation, and the final classifier is trained on all examples,
including these. With k shots, k random examples per class are used for training and min(k, 4) others for validation;
the final classifier is not trained on the latter. With the same seed, the training examples for 4 shots include those
for 2 shots.

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
EXPONENTS = (-6.0, 6.0)  # range of log10(C)
COARSE, FINE = 2.0, 1 / 8  # first and last step of log10(C)
VALIDATION_SHOTS = 4  # at most this many validation examples per class, with k shots
VALIDATION_PART = 5  # with all examples, one in five is for validation
TEST_CHUNK = 4096  # test examples that are classified at a time


@dataclass(frozen=True)
class Examples:
    """Labelled features.

    Attributes:
        features: float32 [N, F].
        labels: classes, int64 [N].
    """

    features: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __getitem__(self, indices: np.ndarray | slice) -> Examples:
        return Examples(self.features[indices], self.labels[indices])


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe.

    Attributes:
        counts: `pacl.metrics.accuracy.count_ranks` of the test examples, int64 [C, 3].
        C: the chosen inverse strength of the penalty.
        validation: accuracy on the validation examples with this C, in percent.
    """

    counts: np.ndarray = field(repr=False)
    C: float
    validation: float


def check_installed() -> None:
    """Raise a `UserError` unless scikit-learn is installed."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError('linear probes need scikit-learn: pip install "pacl[eval]"')


def split_examples(labels: np.ndarray, shots: Shots, seed: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Choose random examples for training and for validation.

    Args:
        labels: classes of all training examples, int64 [N].
        shots: number of training examples per class, or ``all``.
        seed: random seed.
        names: names of the C classes, for error messages.

    Returns:
        Indices of the training examples and of the validation examples, int64, sorted and disjoint.

    Raises:
        UserError: a class has no examples.
        ArgumentError: a class has too few examples for ``shots``.
    """
    fit: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for label in range(len(names)):
        shuffled = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        if not len(shuffled):
            raise UserError(f"class {names[label]!r} has no training images to probe with")
        if isinstance(shots, int):
            held = min(shots, VALIDATION_SHOTS)
            if len(shuffled) < shots + held:
                reason = f"class {names[label]!r} has {len(shuffled)} training images"
                raise ArgumentError("shots", shots, f"{reason}; {shots} are needed, and {held} more for validation")
            # Validation examples are taken from the end, so that more shots only add training examples.
            fit.append(shuffled[:shots])
            validation.append(shuffled[len(shuffled) - held :])
        else:
            held = len(shuffled) // VALIDATION_PART
            fit.append(shuffled[held:])
            validation.append(shuffled[:held])
    found = np.sort(np.concatenate(fit)), np.sort(np.concatenate(validation))
    if not len(found[1]):
        raise ArgumentError(
            "shots", shots, f"needs a class with at least {VALIDATION_PART} training images, one of them for validation"
        )
    return found


@dataclass(frozen=True)
class Splits:
    """The training and validation examples of all probes of a run.

    Attributes:
        seeds: shots -> seeds. With all examples only the first seed is used, for the validation split.
        indices: (shots, seed) -> the result of `split_examples`.
        needed: indices of all examples that any split uses, int64, sorted.
    """

    seeds: dict[Shots, list[int]]
    indices: dict[tuple[Shots, int], tuple[np.ndarray, np.ndarray]] = field(repr=False)
    needed: np.ndarray = field(repr=False)


def make_splits(labels: np.ndarray, names: Sequence[str], shots: Sequence[str], seeds: Sequence[int]) -> Splits:
    """Split the examples for all probes of a run. Only labels are needed, so errors come before any image is read.

    Args:
        labels: classes of all training examples, int64 [N].
        names: names of the C classes, for error messages.
        shots: numbers of training examples per class, or ``all``.
        seeds: random seeds.

    Raises:
        UserError: a class has no or too few examples, as in `split_examples`.
    """
    wanted: list[Shots] = [ALL if each == ALL else int(each) for each in dict.fromkeys(shots)]
    every = list(dict.fromkeys(seeds))
    used = {each: every[:1] if each == ALL else every for each in wanted}
    indices = {(each, seed): split_examples(labels, each, seed, names) for each in wanted for seed in used[each]}
    return Splits(used, indices, np.unique(np.concatenate([part for pair in indices.values() for part in pair])))


def run_probe(fit: Examples, validation: Examples, test: Examples, classes: int, *, refit: bool) -> ProbeResult:
    """Choose C on the validation examples, train a linear classifier and test it.

    Args:
        fit: training examples.
        validation: examples on which C is chosen.
        test: test examples.
        classes: number of classes.
        refit: train the final classifier on the validation examples as well.
    """
    C, accuracy = choose_c(fit, validation)
    if refit:
        fit = Examples(
            np.concatenate([fit.features, validation.features]), np.concatenate([fit.labels, validation.labels])
        )
    classify = fit_logistic(fit, C, classes)
    counts = np.zeros((classes, 3), dtype=np.int64)
    for first in range(0, len(test.labels), TEST_CHUNK):  # so that only the scores of a chunk are in memory
        chunk = test[first : first + TEST_CHUNK]
        counts += count_ranks(torch.from_numpy(classify(chunk.features)), torch.from_numpy(chunk.labels))
    return ProbeResult(counts, C, accuracy)


def choose_c(fit: Examples, validation: Examples) -> tuple[float, float]:
    """Search the best C, as described in the module's docstring.

    Returns:
        C, and the accuracy on the validation examples with this C, in percent.
    """
    classes = int(max(fit.labels.max(), validation.labels.max())) + 1
    tried: dict[float, tuple[float, float]] = {}  # log10(C) -> accuracy in percent, -loss

    def merit(exponent: float) -> tuple[float, float]:
        if exponent not in tried:
            scores = fit_logistic(fit, 10**exponent, classes)(validation.features)
            true = scores[np.arange(len(scores)), validation.labels]
            top = scores.max(axis=1)
            loss = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - true  # cross-entropy
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
    """Train a logistic regression.

    Args:
        train: training examples.
        C: inverse strength of the L2 penalty.
        classes: number of classes.

    Returns:
        The classifier, a function from features [N, F] to logits, float64 [N, C]. The logit of a class without training
        examples is -1e30.

    Raises:
        UserError: scikit-learn is not installed, or the examples are all of one class.
    """
    check_installed()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(train.labels)
    if len(present) < 2:
        raise UserError("a linear probe needs training images of two classes or more")
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)  # L-BFGS and an L2 penalty are its defaults
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # expected with weak penalties, as in the paper
        model.fit(train.features, train.labels)

    def classify(features: np.ndarray) -> np.ndarray:
        found = model.decision_function(features)
        if found.ndim == 1:  # for two classes scikit-learn returns the difference of their logits
            found = np.stack([-found / 2, found / 2], axis=1)
        scores = np.full((len(features), classes), -1e30)
        scores[:, present] = found
        return scores

    return classify


# --- Results ------------------------------------------------------------------------------------------


def planned_probes(setup: Setup, train: ImageSet, test: ImageSet, splits: Splits, kinds: Sequence[str]) -> list[Result]:
    """The results of `probe_results` before they are measured: settings without scores.

    Args:
        setup: model and settings.
        train: images from which training examples are chosen.
        test: test images.
        splits: the examples that are chosen.
        kinds: kinds of features, see `eval.classification.features.features`.
    """
    found = []
    digest = train.subset(splits.needed).digest()[:DIGITS]
    for kind, shots in _runs(splits, kinds):
        protocol: dict[str, Any] = {
            "name": "linear probe" if shots == ALL else "few-shot",
            "names": None,
            "shots": shots,
            "seeds": splits.seeds[shots],
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
    setup: Setup, train: ImageSet, test: ImageSet, splits: Splits, kinds: Sequence[str], planned: Sequence[Result],
    folder: Path,
) -> list[Result]:  # fmt: skip
    """Train and test all probes.

    Args:
        setup, train, test, splits, kinds: as in `planned_probes`.
        planned: the result of `planned_probes`.
        folder: folder in which features are cached.

    Returns:
        The planned results with their scores, which are means over the seeds.
    """
    parts = train.subset(splits.needed), test
    start = time.perf_counter()
    train_features, test_features = (
        cached_features(setup.model, images, folder, setup.loading, f"{images.benchmark.name} {images.split}")
        for images in parts
    )
    embedding = time.perf_counter() - start
    results = []
    runs = list(zip(_runs(splits, kinds), planned, strict=True))
    for (kind, shots), result in tracked(runs, "probes"):
        examples = Examples(train_features[kind].numpy(), train.labels[splits.needed])
        test_examples = Examples(test_features[kind].numpy(), test.labels)
        found: list[ProbeResult] = []
        start = time.perf_counter()
        for seed in splits.seeds[shots]:
            fit, validation = (examples[np.searchsorted(splits.needed, part)] for part in splits.indices[shots, seed])
            found.append(run_probe(fit, validation, test_examples, len(test.keys), refit=shots == ALL))
        speed = {
            "images_per_second": sum(map(len, parts)) / embedding,  # far higher if features come from the cache
            "fitting_seconds": time.perf_counter() - start,
        }
        measured = setup.measured(result, test, np.sum([each.counts for each in found], axis=0), speed)
        details = _seed_details(found, splits.seeds[shots])
        # No intervals: all seeds have the same test images, so an interval of their summed counts would be too narrow.
        results.append(dataclasses.replace(measured, details={**measured.details, **details}, intervals={}))
    return results


def _runs(splits: Splits, kinds: Sequence[str]) -> list[tuple[str, Shots]]:
    """(kind of features, shots) of each result."""
    return [(kind, shots) for kind in dict.fromkeys(kinds) for shots in splits.seeds]


def _seed_details(found: Sequence[ProbeResult], seeds: Sequence[int]) -> dict[str, Any]:
    """C and scores of each seed, and the standard deviation of the scores over seeds (None for one seed)."""
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
