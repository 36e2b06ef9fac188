"""Segment images by words: `Segmenter.set_image` once, `Segmenter.predict` often.

set_image   image [H,W,3] -> patch vectors [T,D,h,w]                        pacl.segmentation.encode
predict     labels -> prompts -> text vectors [N,D]                         pacl.segmentation.query
            patches times texts -> cosines [T,N,h,w] -> index [H,W]         pacl.segmentation.scoring
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pacl.errors import ArgumentError, UnfamiliarWords
from pacl.models.precision import resolve_precision
from pacl.models.vocabulary import Vocabulary, say_unfamiliar
from pacl.prompts import Label, check_labels, get_templates, parse_prompt
from pacl.segmentation.background import parse_background
from pacl.segmentation.encode import AnyImage, EncodedImage, encode_images
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.query import EncodedQuery, encode_query, make_query
from pacl.segmentation.scoring import label_image, logit_scale
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from pacl.models.model import PACL

__all__ = ["Segmentation", "Segmenter", "SegmenterSettings"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels of one image."""

    labels: list[str]
    """Names, C of them; `labels[i]` is painted as i + 1."""
    prompts: list[tuple[str, ...]]
    """The prompts of each label."""
    index: np.ndarray
    """[H, W], uint8 (uint16 above 255 labels): 0 is background, i + 1 is `labels[i]`."""
    shares: list[float]
    """Share of the image's pixels that each label won, in [0, 1]; the rest is background."""
    scores: list[float]
    """Mean probability of each label over the pixels it won, in [0, 1]; 0 where it won none."""
    background: str
    """The background rule, with `auto` resolved."""
    settings: SegmenterSettings
    """The settings, with those that were left to the model resolved."""
    cosines: PatchMaps = field(repr=False)
    """Cosines of the patches with the N prompts, values [T, N, h, w]."""
    ids: tuple[int, ...] = field(repr=False)
    """Of each prompt: i + 1 of its label, or 0 for the background."""

    def mask(self, label: str | int) -> np.ndarray:
        """bool [H, W]: the pixels of a label, given by name or position."""
        return self.index == self._position(label) + 1

    def score_map(self, label: str | int) -> np.ndarray:
        """float32 [H, W] in [-1, 1]: cosine of a label, the highest of its prompts, upsampled on each call."""
        wanted = [n for n, i in enumerate(self.ids) if i == self._position(label) + 1]
        maps = replace(self.cosines, values=self.cosines.values[:, wanted])  # [T, N of the label, h, w]
        rows = [band.amax(0).cpu() for _, _, band in maps.bands()]  # [rows, W] each
        return torch.cat(rows).numpy()

    def _position(self, label: str | int) -> int:
        if isinstance(label, str):
            if label not in self.labels:
                raise KeyError(f"no label {label!r}; there are {', '.join(self.labels)}")
            return self.labels.index(label)
        return range(len(self.labels))[label]


class Segmenter:
    """Segments images with a `PACL` model. Encoding an image is the expensive half and happens once an image.

    Args:
        model: The model; images are computed on its device.
        settings: How to segment; those that are None are left to the model.

    Raises:
        ArgumentError: A setting does not fit the model.

    Example:
        >>> segmenter = Segmenter(load_model())
        >>> segmenter.set_image("dog.jpg")
        >>> segmenter.predict(["a dog", "grass"]).mask("a dog")  # bool [H, W]
        >>> segmenter.predict(["a cat"]).shares                   # the same image, other words: cheap
    """

    def __init__(self, model: PACL, settings: SegmenterSettings | None = None) -> None:
        self.model = model
        settings = settings or SegmenterSettings()
        self.settings = replace(settings, precision=resolve_precision(settings.precision, model.clip))
        self.background = parse_background(self.settings.background)
        self.templates = get_templates(self.settings.templates)
        self.image: EncodedImage | None = None
        self.vocabulary = Vocabulary(model.config.vocabulary, model.clip.text)
        self._looked_up: set[str] = set()  # prompts that were warned of, or need no warning
        self._check_patch_size(model.clip.patch)

    def _check_patch_size(self, patch: int) -> None:
        settings, own = self.settings, self.model.config
        for name in ("size", "window"):
            value = getattr(settings, name)
            if value is not None and value < patch:
                raise ArgumentError(name, value, f"must be at least the model's patch size of {patch} pixels")
        size, smallest = settings.size or own.size, min(settings.scales or own.scales)
        if round(size * smallest) < patch:
            raise ArgumentError("scales", f"{smallest:g}", f"{size} pixels times that are less than a patch of {patch}")
        if settings.stride is not None and settings.stride > patch:
            raise ArgumentError("stride", settings.stride, f"must be at most the model's patch size of {patch}")

    @torch.inference_mode()
    def set_image(self, image: AnyImage) -> None:
        """Encode an image for the calls of `predict` that follow.

        Args:
            image: uint8 array [H, W, 3] in RGB, tensor [3, H, W] (uint8, or float in [0, 1]), Pillow image, or path.
        """
        self.image = encode_images([self.model], [image], self.settings)[0][0]

    def reset_image(self) -> None:
        """Forget the image that was set, and free its memory."""
        self.image = None

    def predict(self, labels: Sequence[str | Label] | EncodedQuery) -> Segmentation:
        """Segment the image that was set. All labels compete for every pixel.

        Args:
            labels: Texts (`"a dog"`, `"a dog=dog"`, `"cat;kitten=cat"`), `Label`s, or what `prepare` made of them. A
                single one works: see the background rule `auto`.

        Raises:
            UserError: The labels make no sense, see `pacl.prompts.check_labels`.

        Warns:
            UnfamiliarWords: Prompts are far from all words that the head was trained on; of each once.
        """
        if self.image is None:
            raise RuntimeError("call set_image before predict")
        return self.segment(self.image, self._prepare(labels))

    def predict_batch(
        self, images: Sequence[AnyImage], labels: Sequence[str | Label] | EncodedQuery
    ) -> list[Segmentation]:
        """Segment several images, of equal or different sizes, with the same labels; see `set_image`, `predict`."""
        query = self._prepare(labels)
        with torch.inference_mode():
            encoded = encode_images([self.model], images, self.settings)[0]
        return [self.segment(image, query) for image in encoded]

    def prepare(self, labels: Sequence[str | Label]) -> EncodedQuery:
        """Check and embed labels once, for many calls of `predict` or `predict_batch`; see `predict`."""
        return self._prepare(labels)

    @torch.inference_mode()
    def _prepare(self, labels: Sequence[str | Label] | EncodedQuery) -> EncodedQuery:
        if isinstance(labels, EncodedQuery):
            return labels
        labels = [labels] if isinstance(labels, (str, Label)) else list(labels)
        if wrong := [label for label in labels if not isinstance(label, (str, Label))]:
            raise TypeError(f"labels are texts or Label, not {type(wrong[0]).__name__}")
        clip = self.model.clip
        asked = [label if isinstance(label, Label) else parse_prompt(label) for label in labels]
        background = [Label(f"background {self.background}", self.background.prompts)] * bool(self.background.prompts)
        check_labels(
            [*asked, *background],
            count_tokens=clip.count_tokens,
            context_length=clip.context_length,
            templates=self.templates,
        )
        self._warn_of_unfamiliar([prompt for label in [*asked, *background] for prompt in label.prompts])
        return self.encode_query(asked)

    @torch.inference_mode()
    def encode_query(self, labels: Sequence[Label], background_prompts: Sequence[str] = ()) -> EncodedQuery:
        """Embed labels without the checks of `prepare`; benchmarks have names that these would refuse.

        Args:
            labels: C of them.
            background_prompts: Texts of the background that compete beside any background rule.
        """
        query = make_query(labels, self.background, self.model.config, background_prompts)
        return encode_query(self.model, query, self.templates)

    @torch.inference_mode()
    def segment(self, image: EncodedImage, encoded: EncodedQuery) -> Segmentation:
        """Label the pixels of an encoded image (see `pacl.segmentation.encode.encode_images`)."""
        query = encoded.query
        cosines = image.patches.similarity(encoded.texts)  # values [T, N, h, w]
        index, pixels, confidence = label_image(image, cosines, encoded, self.model, self.settings)
        return Segmentation(
            labels=[label.name for label in query.labels],
            prompts=[label.prompts for label in query.labels],
            index=index,
            shares=(pixels[1:] / index.size).tolist(),
            scores=(confidence[1:] / np.maximum(pixels[1:], 1)).tolist(),
            background=str(query.background),
            settings=self.resolved_settings(),
            cosines=cosines,
            ids=query.ids,
        )

    def resolved_settings(self) -> SegmenterSettings:
        """The settings with those that were left to the model replaced by the model's own; results state these."""
        settings, own = self.settings, self.model.config
        return replace(
            settings,
            size=settings.size or own.size,
            scales=settings.scales or tuple(own.scales),
            prior=own.prior if settings.prior is None else settings.prior,
            logit_scale=logit_scale(self.model, settings),
        )

    def _warn_of_unfamiliar(self, prompts: Sequence[str]) -> None:
        new = [prompt for prompt in prompts if prompt not in self._looked_up]
        self._looked_up.update(new)
        if found := self.vocabulary.unfamiliar(new):
            warnings.warn(say_unfamiliar(found), UnfamiliarWords, stacklevel=5)
