"""Scores of whole images with texts, and probabilities of labels.

texts  --templates, mean-->  text vectors [N, D]
clip   square crop --open_clip's preprocessing, image tower-->  pooled embedding [D] --cosine-->  [N]
phi    whole image --resized, image tower, head-->  patch vectors [P, D] --PACL's compatibility-->  [N]

Shapes: I images, N texts, C labels of one or more texts, P patches, D embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from pacl.classification.preprocessing import preprocessing
from pacl.errors import ArgumentError, are_several
from pacl.models import identity
from pacl.models.loading import as_model
from pacl.models.precision import inference, resolve_precision, tower_autocast
from pacl.models.vocabulary import Vocabulary
from pacl.prompts import Label, check_labels, fill, get_templates
from pacl.segmentation.background import Background
from pacl.segmentation.doubts import doubts
from pacl.segmentation.encode import AnyImage, as_array, encode_images, warn_of_black
from pacl.segmentation.query import encode_query, make_query
from pacl.segmentation.segmenter import as_labels
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from pacl.models.model import PACL

Score = Literal["clip", "phi", "both"]
SCORES: tuple[str, ...] = get_args(Score)
BATCH = 16
"""Images that go through the image tower at once."""


@dataclass(frozen=True, eq=False)
class EncodedLabels:
    """C labels and the vectors of their N texts.

    Attributes:
        names: of the labels.
        owners: index of the label of each text, int64 [N]; all of a label's texts are neighbours.
        clip: text embeddings of the CLIP, float32 [N, D], unit length.
        head: text embeddings of PACL's head, float32 [N, D], unit length.
        made_by: digest of the model and the templates that made them, see `Scorer.encode`; None is not compared.
    """

    names: tuple[str, ...]
    owners: Tensor
    clip: Tensor
    head: Tensor
    made_by: str | None = None


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """A batch of B images.

    Attributes:
        pooled: pooled embeddings, float32 [B, D], unit length; None where the score does not need them.
        patches: patch vectors of each image, float32 [P, D]; None where the score does not need them.
    """

    pooled: Tensor | None
    patches: list[Tensor] | None


class Scorer:
    """Scores images with texts. Texts are encoded once, images in batches.

    Args:
        model: the model, or its name for `pacl.load_model`; images are computed on its device.
        score: ``clip``, ``phi`` or ``both``, their weighted mean; None is `default_score`.
        weight: share of phi in ``both``, from 0 to 1.
        templates: sentence templates that are averaged around each text: a name or file of
            `pacl.prompts.get_templates`.
        precision: of the image tower: ``fp32``, ``bf16`` or ``auto``.

    Raises:
        ArgumentError: there is no such score, weight or precision, or the model has no pooled image embedding in the
            space of its texts and the score needs one.
        UserError: there are no such templates.
    """

    def __init__(
        self,
        model: PACL | str | Path,
        score: Score | None = None,
        *,
        weight: float = 0.5,
        templates: str | Path = "none",
        precision: str = "fp32",
    ) -> None:
        self.model = model = as_model(model)
        self.score = check_score(model, score)
        if not 0 <= weight <= 1:
            raise ArgumentError("weight", weight, "must be from 0 (clip alone) to 1 (phi alone)")
        self.weight = {"clip": 0.0, "phi": 1.0, "both": weight}[self.score]
        self.templates = get_templates(templates)
        self.precision = resolve_precision(precision, model.clip)
        self.vocabulary = Vocabulary(model.config.vocabulary, model.clip.text)

    @property
    def logit_scale(self) -> float:
        """Factor on the scores in the softmax over labels: CLIP's own, the head's, or their weighted mean."""
        return (1 - self.weight) * self.model.clip.logit_scale + self.weight * float(self.model.logit_scale.detach())

    @inference()
    def encode(self, labels: Sequence[Label]) -> EncodedLabels:
        """Check and embed labels, whose names may be anything; two labels may have the same text.

        Raises:
            UserError: there are none; a text is empty, too long, or has no word that the model knows.

        Warns:
            UnknownWords: texts have words that a model with a closed vocabulary was never taught.
            UnfamiliarWords: texts are far from all words that the head was trained on.
            SameEmbedding: texts of different labels have the same embedding.
        """
        clip, model = self.model.clip, self.model
        texts = [text for label in labels for text in label.prompts]
        check_labels(
            [Label(f"{i} {label.name}", label.prompts) for i, label in enumerate(labels)] if labels else [],
            count_tokens=clip.count_tokens,
            context_length=clip.context_length,
            templates=self.templates,
            shared_prompts=True,
        )
        encoded = encode_query(model, make_query(labels, Background("none"), model.config), self.templates)
        for category, message in doubts(clip, self.vocabulary, self.templates, texts, encoded, names_of_labels=False):
            warnings.warn(message, category, stacklevel=3)
        filled = [fill(template, text) for text in texts for template in self.templates]
        pooled = rearrange(clip.encode_text(filled), "(n k) d -> n k d", k=len(self.templates)).mean(dim=1)
        owners = torch.tensor(encoded.query.ids, device=model.device) - 1
        names = tuple(label.name for label in labels)
        return EncodedLabels(names, owners, F.normalize(pooled.float(), dim=-1), encoded.texts, self._made_by())

    def _made_by(self) -> str:
        return identity.digest({**identity.texts(self.model), "templates": list(self.templates)})

    def check(self, labels: EncodedLabels) -> None:
        """Refuse labels that a scorer with another model or other templates encoded.

        Raises:
            ArgumentError: ``labels``.
        """
        if labels.made_by not in (None, self._made_by()):
            reason = "were encoded with another model or other templates; encode them again"
            raise ArgumentError("labels", "of another scorer", reason)

    @inference()
    def scores(self, images: Sequence[AnyImage], labels: EncodedLabels, names: Sequence[str] = ()) -> Tensor:
        """The scores of images with labels; of a label with several texts, the highest.

        Args:
            images: in any form that `pacl.segmentation.encode.as_tensor` takes; sizes may differ.
            labels: see `encode`.
            names: of the images, for errors.

        Returns:
            float32 [I, C] on the CPU, in [-1, 1].

        Raises:
            UserError: a file cannot be read.
            ArgumentError: an image is none, or of a wrong shape, dtype or range; ``labels``: see `check`.
        """
        self.check(labels)
        names = names or [f"images[{i}]" for i in range(len(images))]
        parts = [torch.empty(0, len(labels.names))]
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            parts.append(self.compare(self.embed(images[batch], names[batch]), labels))
        return torch.cat(parts)

    @inference()
    def embed(self, images: Sequence[AnyImage], names: Sequence[str]) -> EmbeddedImages:
        """Encode one batch of images for `compare`; see `scores`.

        What is computed depends on the score and never on the weight, since an index keeps it for other weights, too.
        """
        arrays = [as_array(image, name) for image, name in zip(images, names, strict=True)]
        pooled = self._pooled(arrays) if self.score != "phi" else None
        return EmbeddedImages(pooled, self._patches(arrays) if self.score != "clip" else None)

    def _pooled(self, images: Sequence[np.ndarray]) -> Tensor:
        """Pooled embeddings, float32 [B, D], of images as the CLIP was trained on them: a square from the centre."""
        preprocess = preprocessing(self.model)
        squares = torch.stack([preprocess(Image.fromarray(image)) for image in images])  # [B, 3, S, S]
        with tower_autocast(self.precision, self.model.clip):
            return self.model.clip.encode_image(squares.to(self.model.device)).float()

    def _patches(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Patch vectors, float32 [P, D] each, of whole images at the model's own size: nothing is cut off."""
        settings = SegmenterSettings(scales=(1.0,), precision=self.precision, window_batch=BATCH)
        encoded = encode_images([self.model], images, settings)[0]
        return [rearrange(each.patches.values, "t d h w -> (t h w) d") for each in encoded]

    @inference()
    def compare(self, images: EmbeddedImages, labels: EncodedLabels) -> Tensor:
        """The scores of embedded images with labels, float32 [B, C] on the CPU; see `scores`."""
        parts = []
        if self.weight < 1 and images.pooled is not None:
            parts.append((1 - self.weight) * (images.pooled @ labels.clip.T))
        if self.weight > 0 and images.patches is not None:
            phi = torch.cat([self.model.phi(patches[None], labels.head) for patches in images.patches])
            parts.append(self.weight * phi)
        return best_of_labels(sum(parts[1:], parts[0]), labels).cpu()

    def probabilities(self, scores: Tensor) -> Tensor:
        """Scores [I, C] -> the softmax over the labels of `logit_scale` times them, float32 [I, C]."""
        return (self.logit_scale * scores).softmax(dim=-1)

    @inference()
    def maps(self, image: AnyImage, labels: EncodedLabels, size: tuple[int, int]) -> np.ndarray:
        """Where the labels are: the cosines of an image's patches, upsampled.

        Args:
            image: as for `scores`.
            labels: C of them.
            size: height and width of the maps.

        Returns:
            float32 [C, *size], in [-1, 1].
        """
        settings = SegmenterSettings(precision=self.precision)
        patches = encode_images([self.model], [image], settings)[0][0].patches.similarity(labels.head)
        cosines = torch.cat([rows for *_, rows in patches.bands(size)], dim=1)  # [N, H, W]
        return np.stack([cosines[labels.owners == i].amax(0).cpu().numpy() for i in range(len(labels.names))])


def best_of_labels(scores: Tensor, labels: EncodedLabels) -> Tensor:
    """Scores of texts [B, N] -> the highest of each label [B, C]."""
    best = scores.new_full((len(scores), len(labels.names)), -torch.inf)
    return best.scatter_reduce(1, labels.owners.expand(len(scores), -1), scores, "amax")


def default_score(model: PACL) -> Score:
    """``clip`` where the image tower has a pooled embedding in the space of the texts, else ``phi``."""
    return "clip" if model.clip.shared else "phi"


def check_score(model: PACL, score: str | None) -> Score:
    """The score itself, or the default for None.

    Raises:
        ArgumentError: there is no such score, or the model has not what it needs.
    """
    if score is None:
        return default_score(model)
    if score not in SCORES:
        raise ArgumentError("score", score, f"choose from {', '.join(SCORES)}")
    if score != "phi" and not model.clip.shared:
        name = model.clip.name
        reason = f"the towers of {name} were trained apart and have no space of images and texts in common; use phi"
        raise ArgumentError("score", score, reason)
    return score  # type: ignore[return-value]


def score_images(
    model: PACL | str | Path,
    images: Iterable[AnyImage],
    texts: Iterable[str],
    score: Score | None = None,
    *,
    weight: float = 0.5,
    templates: str | Path = "none",
) -> Tensor:
    """The score of every image with every text.

    Args:
        model: the model, or its name for `pacl.load_model`.
        images: each a path; a Pillow image; an array [H, W, 3] in RGB or a tensor [3, H, W], uint8 or float in [0, 1].
        texts: as they are: ``;`` and ``=`` mean nothing here.
        score: ``clip``: the cosine of CLIP's pooled embedding; ``phi``: PACL's compatibility of the patches; ``both``:
            their weighted mean. None: ``clip`` where the model has it, else ``phi``.
        weight: share of phi in ``both``, from 0 to 1.
        templates: ``none``, ``photo``, ``paper``, ``imagenet``, or a file with a sentence with ``{}`` a line.

    Returns:
        float32 [I, N] on the CPU, in [-1, 1].

    Raises:
        ArgumentError: ``images`` or ``texts`` are not several, or one of them is none; ``score`` or ``weight`` does
            not work.
        UserError: a file cannot be read, or a text makes no sense to the model.

    Warns:
        UnknownWords, UnfamiliarWords, SameEmbedding, SimilarLabels: as `pacl.Segmenter.predict` does.
        ImageWarning: as `pacl.Segmenter.set_image` does.

    Example:
        >>> score_images(load_model("photos"), ["cat.jpg", "dog.jpg"], ["a cat", "a dog"])  # float32 [2, 2]
    """
    images, labels = as_images(images), plain_texts(texts)
    warn_of_black(images)
    scorer = Scorer(model, score, weight=weight, templates=templates)
    return scorer.scores(images, scorer.encode(labels))


def classify_images(
    model: PACL | str | Path,
    images: Iterable[AnyImage],
    labels: Iterable[str | Label],
    score: Score | None = None,
    *,
    weight: float = 0.5,
    templates: str | Path = "none",
) -> Tensor:
    """The probability of every label for every image: the softmax over labels of logit scale times score.

    Args:
        model: the model, or its name for `pacl.load_model`.
        images: as for `score_images`.
        labels: two or more, as for `pacl.Segmenter.predict`: of several prompts the one with the highest score counts.
        score: as for `score_images`.
        weight: as for `score_images`.
        templates: as for `score_images`.

    Returns:
        float32 [I, C] on the CPU: a row for each image, which sums to 1, and a column for each label, in their orders.

    Raises:
        ArgumentError: as for `score_images`; ``labels``: fewer than two.
        UserError: as for `score_images`.

    Warns:
        as for `score_images`.
    """
    images, asked = as_images(images), check_competing(check_labels(as_labels(labels)))
    warn_of_black(images)
    scorer = Scorer(model, score, weight=weight, templates=templates)
    return scorer.probabilities(scorer.scores(images, scorer.encode(asked)))


def check_competing(labels: list[Label]) -> list[Label]:
    """The labels, if their probabilities tell anything.

    Raises:
        ArgumentError: there is only one.
    """
    if len(labels) < 2:
        raise ArgumentError("labels", [label.name for label in labels], "one label alone has probability 1; give two")
    return labels


def plain_texts(texts: Iterable[str]) -> list[Label]:
    """Texts as labels, each its own.

    Raises:
        ArgumentError: they are not texts, have no order, or there are none.
    """
    if not are_several(texts):
        raise ArgumentError("texts", f"of type {type(texts).__name__}", 'must be a list, such as ["a dog", "a cat"]')
    found = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ArgumentError(f"texts[{i}]", f"of type {type(text).__name__}", "must be a text")
        if not text.strip():
            raise ArgumentError(f"texts[{i}]", repr(text), "is empty")
        found.append(Label(text, (text,)))
    if not found:
        raise ArgumentError("texts", "[]", "give at least one text")
    return found


def as_images(images: Iterable[AnyImage]) -> list[AnyImage]:
    """Several images as a list.

    Raises:
        ArgumentError: it is a single one, or none, or they have no order.
    """
    if isinstance(images, (str, Path)):
        raise ArgumentError("images", repr(str(images)), f'must be a list of images, such as ["{images}"]')
    if not are_several(images):
        raise ArgumentError("images", f"of type {type(images).__name__}", "must be a list of images")
    return list(images)
