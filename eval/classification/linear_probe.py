"""How well a linear classifier does on frozen features, from a few examples a class or from all.

As the CLIP paper does it (Radford et al., 2021, appendix A.3): scikit-learn's logistic regression, L-BFGS, at most
1,000 iterations, the strength of its L2 penalty chosen on a validation split.

The choice of C: of 10^-6, 10^-4, ..., 10^6 the best, then its neighbours at half the distance, until steps of an
eighth of a decade: the paper's search for the peak among 96 values. The best has the highest validation accuracy; of
equal ones, which small validation splits often give, the lowest validation loss.

All examples: a fifth of each class is the validation split, and the final classifier is fitted on everything. k shots:
k examples a class, drawn by the seed, and min(k, 4) further ones to validate on, which are not fitted on. The
draws of a seed are nested: 4 shots hold the 2 shots.

Shapes: N examples, F features, C classes.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pacl.errors import UserError
from pacl.metrics.accuracy import accuracies, count_ranks

ALL = "all"
Shots = int | str
MAX_ITERATIONS = 1000
EXPONENTS = (-6.0, 6.0)  # of C, as powers of ten
COARSE, FINE = 2.0, 1 / 8  # steps of the exponent
VALIDATION_SHOTS = 4
VALIDATION_PART = 5  # one in so many, where all examples are used
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
    """What one probe found.

    Attributes:
        counts: `pacl.metrics.accuracy.count_ranks` on the test examples, int64 [C, 3].
        C: the inverse strength of the penalty.
        validation: accuracy on the validation split at that C, in percent.
    """

    counts: np.ndarray = field(repr=False)
    C: float
    validation: float


def check_installed() -> None:
    """Raise a `UserError` unless there is scikit-learn."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError('linear probes need scikit-learn: pip install "pacl[eval]"')


def draw_shots(labels: np.ndarray, shots: Shots, seed: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Draw examples to fit and to validate on.

    Args:
        labels: int64 [N] of all training examples.
        shots: examples a class, or ``all``.
        seed: of the draw.
        names: of the C classes, for messages.

    Returns:
        Indices to fit on and indices to validate on, sorted, without a common one.

    Raises:
        UserError: A class has too few examples, or none.
    """
    fit: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for label in range(len(names)):
        drawn = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        if not len(drawn):
            raise UserError(f"--probe: class {names[label]!r} has no training pictures")
        if isinstance(shots, int):
            held = min(shots, VALIDATION_SHOTS)
            if len(drawn) < shots + held:
                raise UserError(
                    f"--shots {shots}: class {names[label]!r} has {len(drawn)} training pictures; "
                    f"{shots} and {held} to validate on are needed"
                )
            # From both ends, so that fewer shots are a part of more and what is validated on is never fitted on.
            fit.append(drawn[:shots])
            validation.append(drawn[len(drawn) - held :])
        else:
            held = len(drawn) // VALIDATION_PART
            fit.append(drawn[held:])
            validation.append(drawn[:held])
    found = np.sort(np.concatenate(fit)), np.sort(np.concatenate(validation))
    if not len(found[1]):
        raise UserError(
            f"--shots {shots}: no class has {VALIDATION_PART} training pictures, one of which to validate on"
        )
    return found


@dataclass(frozen=True)
class Draws:
    """What a run of probes is fitted and validated on.

    Attributes:
        seeds: of each number of shots; of all examples only the first, which draws what C is chosen on.
        drawn: `draw_shots` of each number of shots and seed.
        needed: int64, indices of all examples that any of them uses, sorted.
    """

    seeds: dict[Shots, list[int]]
    drawn: dict[tuple[Shots, int], tuple[np.ndarray, np.ndarray]] = field(repr=False)
    needed: np.ndarray = field(repr=False)


def draw(labels: np.ndarray, names: Sequence[str], shots: Sequence[str], seeds: Sequence[int]) -> Draws:
    """All draws of a run, for which labels are enough: what is wrong shows before a picture is read.

    Args:
        labels: int64 [N] of all training examples.
        names: of the C classes, for messages.
        shots: examples a class, or ``all``.
        seeds: of the draws.

    Raises:
        UserError: A class has too few examples, or none.
    """
    wanted: list[Shots] = [ALL if each == ALL else int(each) for each in dict.fromkeys(shots)]
    every = list(dict.fromkeys(seeds))
    used = {each: every[:1] if each == ALL else every for each in wanted}
    drawn = {(each, seed): draw_shots(labels, each, seed, names) for each in wanted for seed in used[each]}
    return Draws(used, drawn, np.unique(np.concatenate([indices for pair in drawn.values() for indices in pair])))


def probe(fit: Examples, validation: Examples, test: Examples, classes: int, *, refit: bool) -> Probe:
    """Choose C on the validation examples, fit a linear classifier and measure it on the test examples.

    Args:
        fit: examples to fit on.
        validation: examples to choose C on.
        test: examples to measure on.
        classes: C.
        refit: whether the measured classifier is fitted on the validation examples as well.
    """
    import torch

    C, accuracy = choose_c(fit, validation)
    if refit:
        fit = Examples(*(np.concatenate(pair) for pair in zip(fit.parts, validation.parts, strict=True)))
    classify = fit_logistic(fit, C, classes)
    counts = np.zeros((classes, 3), dtype=np.int64)
    for first in range(0, len(test.labels), TEST_CHUNK):  # of scores [N, C] only a chunk is held
        features, labels = (part[first : first + TEST_CHUNK] for part in test.parts)
        counts += count_ranks(torch.from_numpy(classify(features)), torch.from_numpy(labels))
    return Probe(counts, C, accuracy)


def choose_c(fit: Examples, validation: Examples) -> tuple[float, float]:
    """The best C on the validation examples (see the module) and its accuracy there, in percent."""
    import torch

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
    """Fit; what it returns gives logits [N, C] for features [N, F].

    A class that has no training example is far behind all others.
    """
    check_installed()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(train.labels)
    if len(present) < 2:
        raise UserError("a linear probe needs training pictures of two classes or more")
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)  # L-BFGS and an L2 penalty are its defaults
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties reach the limit, as the paper's did
        model.fit(*train.parts)

    def classify(features: np.ndarray) -> np.ndarray:
        found = model.decision_function(features)
        if found.ndim == 1:  # of two classes it says only how far the second is ahead
            found = np.stack([-found / 2, found / 2], axis=1)
        scores = np.full((len(features), classes), -1e30)
        scores[:, present] = found
        return scores

    return classify
