"""Linear probes: a linear classifier on a frozen model, trained on labelled images, saved and loaded.

A probe keeps what its features depend on (see `pacl.models.identity`), so it is never used with another model, nor with
its own after that was trained on.

Shapes: I images, C classes, F features.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pacl.classification.class_folders import hold_out
from pacl.classification.encoded_folders import BATCH, ImageEncoder, encode_once
from pacl.classification.features import KINDS, Kind, made_by
from pacl.classification.few_shot import accuracy_of, chance
from pacl.classification.logistic import ALL, Trained, check_installed, split_examples, train_classifier
from pacl.classification.scorer import as_images
from pacl.errors import ArgumentError, ImageWarning, UserError, are_several, first_few
from pacl.files import atomic_write, parse_json, save_json, write_together
from pacl.models import identity
from pacl.models.config import PROBE
from pacl.models.config import PROBE_WEIGHTS as WEIGHTS
from pacl.models.loading import as_model, load_model
from pacl.models.precision import PRECISIONS, inference, resolve_precision
from pacl.printing import counted
from pacl.segmentation.encode import AnyImage, as_array, warn_of_black

if TYPE_CHECKING:
    from pacl.models.model import PACL

FORMAT, VERSION = "pacl-probe", 2


@dataclass(eq=False)
class Probe:
    """A linear classifier on the features of a model.

    Attributes:
        model: the model that the features come from.
        model_name: what `pacl.load_model` takes to load it.
        classes: names of the C classes.
        weight: float32 [C, F].
        bias: float32 [C].
        features: kind of features: ``pooled`` or ``patches``, see `pacl.classification.features.features`.
        training: how it was trained, as JSON values.
        precision: precision of the image tower: ``fp32``, ``bf16`` or ``auto``; that which it was trained with, unless
            it is set to another.
        checksum: of what the features depend on.
    """

    model: PACL = field(repr=False)
    model_name: str
    classes: tuple[str, ...]
    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    features: Kind = "pooled"
    training: dict[str, Any] = field(default_factory=dict, repr=False)
    precision: str = "fp32"

    def __post_init__(self) -> None:
        self.checksum = self._checksum_of_features()

    def _checksum_of_features(self) -> str:
        return identity.digest(made_by(self.model, self.features))

    def __repr__(self) -> str:
        classes = counted(len(self.classes), "class", "classes")
        return f"<Probe of {classes} ({first_few(self.classes)}) on {self.features} features of {self.model_name}>"

    @inference()
    def scores(self, images: Iterable[AnyImage], names: Sequence[str] = ()) -> Tensor:
        """Logits of the classes.

        Args:
            images: in any form that `pacl.Segmenter.set_image` takes; sizes may differ.
            names: of the images, for errors.

        Returns:
            float32 [I, C] on the CPU.

        Raises:
            UserError: a file cannot be read, or the model has other weights or settings since.
            ArgumentError: an image is none, or of a wrong shape, dtype or range.
        """
        images = as_images(images)
        if self._checksum_of_features() != self.checksum:
            raise UserError(
                f"this probe was trained on other weights or settings than those that {self.model.clip.name} has now; "
                "train it again"
            )
        names = names or [f"images[{i}]" for i in range(len(images))]
        encoder = ImageEncoder(self.model, self.features, resolve_precision(self.precision, self.model.clip))
        batches = _encode(encoder, images, names)
        scores = [torch.from_numpy(batch) @ self.weight.T + self.bias for batch in batches]
        return torch.cat([torch.empty(0, len(self.classes)), *scores])

    def probabilities(self, scores: Tensor) -> Tensor:
        """Logits [I, C] -> the softmax over the classes, float32 [I, C]."""
        return scores.softmax(dim=-1)

    def classify(self, images: Iterable[AnyImage]) -> Tensor:
        """The probability of every class for every image, float32 [I, C] on the CPU; each row sums to 1.

        Takes and raises what `scores` does, and warns as `pacl.Segmenter.set_image` does.
        """
        images = as_images(images)
        warn_of_black(images)
        return self.probabilities(self.scores(images))

    def save(self, folder: str | Path) -> None:
        """Write ``probe.safetensors`` and ``probe.json`` to a folder, which is made; both are written, or none.

        Raises:
            UserError: they cannot be written.
        """
        folder = Path(folder)
        with write_together():
            with atomic_write(folder / WEIGHTS) as aside:
                aside.write_bytes(save({"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}))
            save_json(folder / PROBE, self.description())

    def description(self) -> dict[str, Any]:
        """The content of ``probe.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model_name,
            "dense": self.model.config.dense,
            "checksum": self.checksum,
            "features": self.features,
            "precision": self.precision,
            "classes": list(self.classes),
            "training": self.training,
        }

    @classmethod
    def load(
        cls, folder: str | Path, model: PACL | str | Path | None = None, *, device: str | torch.device = "auto"
    ) -> Probe:
        """Load a probe that `save` wrote.

        Args:
            folder: the folder.
            model: the model, if it is loaded already, or its name; None loads the one that the probe names.
            device: of a model that is loaded, see `pacl.load_model`.

        Raises:
            UserError: there is no probe, its files are damaged, its model cannot be loaded, or the model has other
                weights or settings than the one it was trained on.
        """
        folder = Path(folder)
        about = read_description(folder)
        try:
            state = load_file(folder / WEIGHTS)
            weight, bias = state["weight"].float(), state["bias"].float()
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(f"{folder / WEIGHTS} cannot be read ({error}); train the probe again") from None
        classes, kind, dense = tuple(about["classes"]), about["features"], about["dense"]
        if weight.ndim != 2 or weight.shape[:1] != bias.shape or len(classes) != len(bias):
            raise UserError(f"{folder}: {WEIGHTS} and {PROBE} do not fit each other; train the probe again")
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise UserError(f"{folder / WEIGHTS}: has values that are not finite; train the probe again")
        if model is None:
            try:
                model = load_model(about["model"], dense=dense, device=device)
            except UserError as error:
                advice = f'set "model" in {folder / PROBE} to where it is now'
                raise UserError(f"{folder}: its model {about['model']} cannot be loaded ({error}); {advice}") from None
        model = as_model(model)
        if identity.digest(made_by(model, kind)) != about["checksum"]:
            raise UserError(
                f"{folder}: this probe was trained on other weights or settings than those of {model.clip.name}; it "
                f"needs {about['model']} as it was then (checksum {about['checksum']})"
            )
        return cls(model, about["model"], classes, weight, bias, kind, about["training"], about["precision"])


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a probe's ``probe.json``.

    Raises:
        UserError: it is missing, or not a probe's.
    """
    path = folder / PROBE
    try:
        about = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); pacl probe writes it") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); train the probe again") from None
    strings = dict.fromkeys(("model", "dense", "checksum", "features", "precision"), str)
    types = {**strings, "classes": list, "training": dict}
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(f"{path}: does not describe a probe; pacl probe writes such files")
    about.setdefault("precision", "fp32")  # older probes lack it
    if about.get("version") != VERSION:
        raise UserError(f"{path}: has version {about.get('version')}, this pacl reads {VERSION}; train the probe again")
    if wrong := next((key for key, kind in types.items() if not isinstance(about.get(key), kind)), None):
        raise UserError(f"{path}: {wrong} is missing or of a wrong type; train the probe again")
    known = about["features"] in KINDS and about["precision"] in PRECISIONS
    if not known or not all(isinstance(name, str) for name in about["classes"]):
        raise UserError(f"{path}: its features, precision or classes are not known; train the probe again")
    return about


def train_probe(
    model: PACL | str | Path,
    images: Iterable[AnyImage],
    labels: Iterable[str],
    *,
    features: Kind = "pooled",
    model_name: str | None = None,
    precision: str = "fp32",
    holdout: float | None = None,
) -> Probe:
    """Train a linear classifier on labelled images.

    It is scikit-learn's logistic regression, as in CLIP's linear probes: the strength of its penalty and the
    temperature of its probabilities are chosen on a fifth of each class, then it is trained on all images. The same
    images give the same probe.

    An image that is there again, with the same pixels, counts once in its class; one in several classes counts in none.

    Args:
        model: the frozen model, or its name for `pacl.load_model`.
        images: in any form that `pacl.Segmenter.set_image` takes, two or more of at least one class.
        labels: the name of each image's class; two or more classes.
        features: ``pooled``: the image tower's own pooled feature; ``patches``: the mean of PACL's patch embeddings.
        model_name: what `pacl.load_model` took, for a probe that is to be saved; None is the name by which it was
            loaded, or that of its backbone.
        precision: of the image tower: ``fp32``, ``bf16`` or ``auto``; the probe keeps the one that ``auto`` stands for.
        holdout: share of each class, between 0 and 1, that is tested on and not trained on, at least one image of
            two; the accuracy, in percent, is then in ``training["results"]``. None trains on all images.

    Returns:
        The probe. ``training`` says how it was trained, also the accuracy on the fifth for validation, in percent.

    Raises:
        ArgumentError: there is no such kind of features, the labels do not fit the images or are of one class, or
            ``holdout`` is out of range or leaves too little.
        UserError: an image cannot be read, scikit-learn is not installed, or too few images are left of a class.

    Warns:
        ImageWarning: images are left out, since they are there again or in several classes; or as
            `pacl.Segmenter.set_image` does.

    Example:
        >>> probe = train_probe(load_model("photos"), ["a.jpg", "b.jpg", "c.jpg"], ["cat", "cat", "dog"])
        >>> probe.classify(["d.jpg"])  # float32 [1, 2]
    """
    check_installed()
    check_features(features)
    images, names = as_images(images), _as_names(labels)
    warn_of_black(images)
    if len(images) != len(names):
        raise ArgumentError("labels", f"({len(names)})", f"must be as many as the images ({len(images)})")
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        raise ArgumentError("labels", list(classes), "must be of two classes or more")
    if holdout is not None and not 0 < holdout < 1:
        raise ArgumentError("holdout", holdout, "must be between 0 and 1, such as 0.2 for a fifth")
    holdout = None if holdout is None else float(holdout)  # one of NumPy's could not be saved
    numbers = np.array([classes.index(name) for name in names], dtype=np.int64)
    _split(numbers, holdout, classes)  # its errors come before any image is read
    model = as_model(model)
    model_name = model_name or model.name or model.clip.name
    precision = resolve_precision(precision, model.clip)
    places = [f"images[{i}]" for i in range(len(images))]
    arrays = ((i, as_array(image, places[i])) for i, image in enumerate(images))
    found = encode_once(ImageEncoder(model, features, precision), arrays, numbers)
    for note in found.notes(places):
        warnings.warn(note, ImageWarning, stacklevel=2)
    fit, validation, tested = _split(found.examples.labels, holdout, classes)
    trained = train_classifier(found.examples[fit], found.examples[validation], len(classes), refit=True)
    more: dict[str, Any] = {}
    if holdout is not None:
        test = found.examples[tested]
        right = trained.classifier(test.features).argmax(axis=1) == test.labels
        rows = [chance(len(classes)), accuracy_of(str(ALL), right[None], test.labels)]
        more = {"holdout": holdout, "test_images": len(tested), "results": [row.to_json() for row in rows]}
    return make_probe(model, model_name, classes, features, trained, precision, **more)


def _split(
    labels: np.ndarray, holdout: float | None, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices, int64, of the examples to train on, to choose the penalty on, and to test on; see `train_probe`."""
    nobody = np.empty(0, np.int64)
    kept, tested = (np.arange(len(labels)), nobody) if holdout is None else hold_out(labels, holdout)
    if holdout is not None and not len(tested):
        raise ArgumentError("holdout", holdout, "leaves no image to test on; classes need two or more")
    fit, validation = split_examples(labels[kept], ALL, 0, classes)
    return kept[fit], kept[validation], tested


def _as_names(labels: Iterable[str]) -> list[str]:
    """The labels as a list; `ArgumentError` if they have no order, or one of them is no text."""
    if not are_several(labels):
        reason = 'must be a list with a name for each image, such as ["cat", "dog"]'
        raise ArgumentError("labels", f"of type {type(labels).__name__}", reason)
    names = list(labels)
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise ArgumentError(f"labels[{i}]", f"of type {type(name).__name__}", "must be a name")
    return names


def make_probe(
    model: PACL,
    model_name: str,
    classes: Sequence[str],
    features: Kind,
    trained: Trained,
    precision: str = "fp32",
    **more: Any,
) -> Probe:
    """A probe of a trained classifier; ``more`` are JSON values that say how it was trained."""
    training = {
        "images": trained.examples,
        "C": trained.C,
        "log10_C": round(math.log10(trained.C), 6),
        "validation_accuracy": trained.validation,
        "temperature": trained.temperature,
        **more,
    }
    weight, bias = torch.from_numpy(trained.classifier.weight), torch.from_numpy(trained.classifier.bias)
    return Probe(model, model_name, tuple(classes), weight, bias, features, training, precision)


def check_features(features: str) -> None:
    """Raise an `ArgumentError` unless there is such a kind of features."""
    if features not in KINDS:
        raise ArgumentError("features", features, f"choose from {', '.join(KINDS)}")


def _encode(encoder: ImageEncoder, images: Sequence[AnyImage], names: Sequence[str]) -> Iterator[np.ndarray]:
    """Features of the images, batch by batch; ``names`` are for errors."""
    for start in range(0, len(images), BATCH):
        batch = slice(start, start + BATCH)
        yield encoder.encode([as_array(image, name) for image, name in zip(images[batch], names[batch], strict=True)])
