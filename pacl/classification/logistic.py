"""Logistic regression on frozen features, with all or few examples per class: the linear probe of the CLIP paper.

The classifier is that of Radford et al. (2021, appendix A.3): scikit-learn's logistic regression, trained by L-BFGS for
at most 1,000 iterations. C, the inverse strength of its L2 penalty, is chosen on validation examples, never on test
examples.

Search for C: all of 10^-6, 10^-4, ..., 10^6 are tried. Then the step is halved and the two neighbours of the best value
are tried, until the step is an eighth of a decade. The paper searches its 96 values in the same way. The best value is
the one with the highest validation accuracy. On small validation splits several values often have the same accuracy;
the one with the lowest validation loss is then taken.

With all examples, a fifth of each class is used for validation (at least one, where it has two), and the final
classifier is trained on all examples, including these. With k shots, k random examples per class are used for training
and min(k, 4) others for validation; the final classifier is not trained on the latter. With the same seed, the training
examples for 4 shots include those for 2 shots.

The C of the highest accuracy often gives probabilities that are nearly even or nearly 0 and 1. So the logits are
divided by one temperature (Guo et al., 2017), the one with the lowest loss on the validation examples. Accuracy stays
the same. Where all validation examples are right, that temperature would be 0. So, as in Platt scaling (1999), labels
are not quite certain: a tenth of an example counts, too, whose label is any class, all being as probable.

Shapes: N examples, F features, C classes.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from pacl.errors import ArgumentError, UserError
from pacl.metrics.accuracy import accuracies, count_ranks
from pacl.printing import counted

ALL = "all"
Shots = int | str
MAX_ITERATIONS = 1000
EXPONENTS = (-6.0, 6.0)  # range of log10(C)
COARSE, FINE = 2.0, 1 / 8  # first and last step of log10(C)
VALIDATION_SHOTS = 4  # at most this many validation examples per class, with k shots
VALIDATION_PART = 5  # with all examples, one in five is for validation
TEMPERATURES = (1e-4, 1e4)  # range of the search
UNCERTAIN = 0.1  # examples of any label, for the temperature
ABSENT = -1e30  # logit of a class without training examples


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
class LinearClassifier:
    """Logits of C classes, ``features @ weight.T + bias``.

    Attributes:
        weight: float32 [C, F].
        bias: float32 [C]; -1e30 for a class without training examples.
    """

    weight: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features [N, F] -> logits, float64 [N, C]."""
        return features.astype(np.float64) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Trained:
    """A classifier and how it was chosen.

    Attributes:
        classifier: the classifier.
        C: the chosen inverse strength of the penalty.
        validation: accuracy on the validation examples with this C, in percent.
        examples: number of training examples.
        temperature: what the logits of the logistic regression were divided by.
    """

    classifier: LinearClassifier
    C: float
    validation: float
    examples: int
    temperature: float


def check_installed() -> None:
    """Raise a `UserError` unless scikit-learn is installed."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError('linear probes need scikit-learn: pip install "pacl[probe]"')


def images_needed(shots: int) -> int:
    """How many training images of a class so many shots take, those for validation included."""
    return shots + min(shots, VALIDATION_SHOTS)


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
        UserError: a class has no examples, or, with ``all``, none has two.
        ArgumentError: a class has too few examples for ``shots``.
    """
    fit: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for label in range(len(names)):
        shuffled = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        if not len(shuffled):
            raise UserError(f"class {names[label]!r} has no training images to probe with")
        if isinstance(shots, int):
            needed = images_needed(shots)
            held = needed - shots
            if len(shuffled) < needed:
                reason = f"class {names[label]!r} has only {counted(len(shuffled), 'training image')}"
                raise ArgumentError(
                    "shots", shots, f"{reason}; {shots} shots need {needed}: {shots} to train and {held} to validate"
                )
            # Validation examples are taken from the end, so that more shots only add training examples.
            fit.append(shuffled[:shots])
            validation.append(shuffled[len(shuffled) - held :])
        else:
            held = max(len(shuffled) // VALIDATION_PART, int(len(shuffled) > 1))
            fit.append(shuffled[held:])
            validation.append(shuffled[:held])
    found = np.sort(np.concatenate(fit)), np.sort(np.concatenate(validation))
    if not len(found[1]):
        raise UserError("no class has two training images, one of them for validation")
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


def make_splits(labels: np.ndarray, names: Sequence[str], shots: Sequence[Shots], seeds: Sequence[int]) -> Splits:
    """Split the examples for all probes of a run. Only labels are needed, so errors come before any image is read.

    Args:
        labels: classes of all training examples, int64 [N].
        names: names of the C classes, for error messages.
        shots: numbers of training examples per class, or ``all``; also as text.
        seeds: random seeds.

    Raises:
        UserError: a class has no or too few examples, as in `split_examples`.
    """
    wanted: list[Shots] = list(dict.fromkeys(ALL if each == ALL else int(each) for each in shots))
    every = list(dict.fromkeys(seeds))
    used = {each: every[:1] if each == ALL else every for each in wanted}
    indices = {(each, seed): split_examples(labels, each, seed, names) for each in wanted for seed in used[each]}
    return Splits(used, indices, np.unique(np.concatenate([part for pair in indices.values() for part in pair])))


def train_classifier(fit: Examples, validation: Examples, classes: int, *, refit: bool) -> Trained:
    """Choose C and the temperature on the validation examples and train a linear classifier with them.

    Args:
        fit: training examples.
        validation: examples on which C and the temperature are chosen.
        classes: number of classes.
        refit: train the final classifier on the validation examples as well.

    Raises:
        UserError: scikit-learn is not installed, or the examples are all of one class.
    """
    C, accuracy = choose_c(fit, validation)
    found = fit_logistic(fit, C, classes)
    temperature = fit_temperature(found, validation)
    if refit:
        fit = Examples(
            np.concatenate([fit.features, validation.features]), np.concatenate([fit.labels, validation.labels])
        )
        found = fit_logistic(fit, C, classes)
    factor = np.float32(1 / temperature)
    return Trained(
        LinearClassifier(found.weight * factor, found.bias * factor), C, accuracy, len(fit.labels), temperature
    )


def fit_temperature(classifier: LinearClassifier, validation: Examples) -> float:
    """The temperature with the lowest loss of ``logits / temperature``, see the module's docstring.

    Args:
        classifier: its logits; classes without training examples are left out.
        validation: labelled examples that it was not trained on.
    """
    from scipy.optimize import minimize_scalar

    present = np.flatnonzero(classifier.bias > ABSENT / 2)
    known = validation[np.isin(validation.labels, present)]
    if not len(known.labels):
        return 1.0
    scores = classifier(known.features)[:, present]
    rows, true = np.arange(len(scores)), np.searchsorted(present, known.labels)

    def loss(log_temperature: float) -> float:
        logs = log_softmax(scores / np.exp(log_temperature))
        return -float(logs[rows, true].sum() + UNCERTAIN * logs.mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax over the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


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
            logs = log_softmax(scores)[np.arange(len(scores)), validation.labels]
            counts = count_ranks(torch.from_numpy(scores), torch.from_numpy(validation.labels))
            tried[exponent] = accuracies(counts)["top1"], float(logs.mean())
        return tried[exponent]

    low, high = EXPONENTS
    best = max(np.arange(low, high + COARSE, COARSE).tolist(), key=merit)
    step = COARSE / 2
    while step >= FINE:
        best = max((e for e in (best, best - step, best + step) if low <= e <= high), key=merit)
        step /= 2
    return float(10**best), tried[best][0]


def fit_logistic(train: Examples, C: float, classes: int) -> LinearClassifier:
    """Train a logistic regression.

    Args:
        train: training examples.
        C: inverse strength of the L2 penalty.
        classes: number of classes.

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
        # Few shots have nearly as many classes as examples.
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        model.fit(train.features, train.labels)

    weight = np.zeros((classes, train.features.shape[1]), np.float32)
    bias = np.full(classes, ABSENT, np.float32)
    if len(present) == 2:  # scikit-learn has the difference of their logits
        weight[present] = np.concatenate([-model.coef_ / 2, model.coef_ / 2])
        bias[present] = np.concatenate([-model.intercept_ / 2, model.intercept_ / 2])
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return LinearClassifier(weight, bias)
