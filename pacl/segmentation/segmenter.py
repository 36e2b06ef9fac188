"""Segment images by words: `Segmenter.set_image` once, `Segmenter.predict` often.

set_image   image [H,W,3] -> patch vectors [T,D,h,w]                        pacl.segmentation.encode
predict     labels -> prompts -> text vectors [N,D]                         pacl.segmentation.query
            patches times texts -> cosines [T,N,h,w] -> index [H,W]         pacl.segmentation.scoring
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pacl.errors import ArgumentError, UserError, are_several
from pacl.files import file_stamp
from pacl.images import MAX_PIXELS
from pacl.models import identity
from pacl.models.loading import as_model
from pacl.models.precision import inference, resolve_precision
from pacl.models.sam import load_sam
from pacl.models.vocabulary import Vocabulary
from pacl.prompts import TEMPLATE_NAMES, Label, check_labels, get_templates, parse_prompt
from pacl.segmentation.background import parse_background
from pacl.segmentation.doubts import doubts
from pacl.segmentation.embedding import ImageEmbedding, check_made_by, made_by
from pacl.segmentation.encode import (
    AnyImage,
    EncodedImage,
    as_tensor,
    encode_images,
    resolved_scales,
    warn_of_black,
)
from pacl.segmentation.query import EncodedQuery, Wording, encode_query, make_query
from pacl.segmentation.result import Segmentation
from pacl.segmentation.sam_masks import sharper_decisions
from pacl.segmentation.scoring import Evidence, label_pixels, logit_scale
from pacl.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from pacl.models.model import PACL


class Segmenter:
    """Segments images with a `PACL` model. Encoding an image takes most of the time and is done once for each image.

    Args:
        model: the model, or its name for `pacl.load_model`; images are computed on its device.
        settings: the settings; for those that are None, the model has values of its own.

    Raises:
        ArgumentError: there is no such model, ``settings`` are no `SegmenterSettings`, or one does not fit the model.

    Example:
        >>> segmenter = Segmenter(load_model())
        >>> segmenter.set_image("dog.jpg")
        >>> segmenter.predict(["a dog", "grass"]).mask("a dog")  # bool [H, W]
        >>> segmenter.predict(["a cat"]).shares                   # the same image, other words: cheap
    """

    def __init__(self, model: PACL | str | Path, settings: SegmenterSettings | None = None) -> None:
        settings = as_settings(settings)
        self.model = model = as_model(model)
        self._settings = replace(settings, precision=resolve_precision(settings.precision, model.clip))
        self.background = parse_background(self.settings.background)
        self.templates = get_templates(self.settings.templates)
        self.sam = load_sam(self.settings.sam, model.device) if self.settings.sam else None
        self.image: EncodedImage | None = None
        self.vocabulary = Vocabulary(model.config.vocabulary, model.clip.text)
        self._check_sizes(model.clip.patch)

    @property
    def settings(self) -> SegmenterSettings:
        """The settings that were given; they cannot be replaced, since the set image and the model depend on them."""
        return self._settings

    @settings.setter
    def settings(self, settings: object) -> NoReturn:
        raise AttributeError("a Segmenter keeps its settings; for others make a new one: Segmenter(model, settings)")

    def _check_sizes(self, patch: int) -> None:
        settings, own = self.settings, self.model.config
        for name in ("size", "window"):
            value = getattr(settings, name)
            if value is not None and value < patch:
                raise ArgumentError(name, value, f"must be at least the model's patch size of {patch} pixels")
        size, smallest = settings.size or own.size, min(settings.scales or own.scales)
        if round(size * smallest) < patch:
            raise ArgumentError("scales", f"{smallest:g}", f"{size} pixels times that are less than a patch of {patch}")
        largest = max(settings.scales or own.scales)
        longest = math.isqrt(MAX_PIXELS)  # of the shorter sides
        if size * largest > longest:
            makes = f"makes images of more than {MAX_PIXELS / 1e6:g} million pixels; the largest is"
            if settings.size is not None and (settings.scales is None or size > longest):
                raise ArgumentError("size", size, f"{makes} {int(longest / largest):,}")
            raise ArgumentError("scales", f"{largest:g}", f"{makes} {longest / size:.4g}")
        self.model.clip.image.check_stride(settings.stride)

    def __repr__(self) -> str:
        model = self.model.name or self.model.config.backbone
        image = "no image" if self.image is None else "an image"
        return f"<Segmenter with {model}, {image} set>"

    def set_image(self, image: AnyImage) -> None:
        """Encode an image for the calls of `predict` that follow. After an error no image is set.

        Args:
            image: a path; a Pillow image; an array [H, W, 3] in RGB or a tensor [3, H, W], uint8 or float in [0, 1]. A
                path is read again when results are drawn, if its file is the same; others are kept, not copied, so do
                not change them before.

        Raises:
            UserError: the file of a path is not a readable image.
            ArgumentError: ``image`` is none of these, or of a wrong shape, dtype or range.

        Warns:
            ImageWarning: the image is nearly black, or as `pacl.open_image` does.
        """
        self.image = None  # after an error, no result is that of the image before
        (self.image,) = self.encode([image], ["image"])
        warn_of_black([image], ["image"])

    def reset_image(self) -> None:
        """Forget the image that was set, and free its memory."""
        self.image = None

    def get_image_embedding(self) -> ImageEmbedding:
        """The patch vectors of the image that was set, to be kept: see `ImageEmbedding.save`.

        Raises:
            RuntimeError: no image was set.
            ArgumentError: ``image``: the model has other weights or settings since.
        """
        if self.image is None:
            raise RuntimeError("call set_image before get_image_embedding")
        self._check_image(self.image)
        return ImageEmbedding(self.image, made_by(self.model, self.resolved_settings(), self.sam))

    def set_image_embedding(self, embedding: ImageEmbedding | str | Path) -> None:
        """Set an image that was encoded before, without encoding it again. After an error no image is set.

        Args:
            embedding: the result of `get_image_embedding`, or the path of a file that it was saved to.

        Raises:
            ArgumentError: ``embedding`` was made with another model or other settings than this segmenter's.
            UserError: the file cannot be read.
        """
        self.image = None
        if isinstance(embedding, (str, Path)):
            embedding = ImageEmbedding.load(embedding)
        if not isinstance(embedding, ImageEmbedding):
            reason = "must be what get_image_embedding returned, or the path of its file"
            raise ArgumentError("embedding", f"of type {type(embedding).__name__}", reason)
        embedding.check(made_by(self.model, self.resolved_settings(), self.sam))
        patches, guide, sam = embedding.encoded.patches, embedding.encoded.guide, embedding.encoded.sam
        self.image = replace(
            embedding.encoded,
            patches=replace(patches, values=patches.values.to(self.model.device)),
            guide=guide if guide is None else guide.to(self.model.device),
            sam=sam if sam is None else tuple(part.to(self.model.device) for part in sam),
            made_by=self._made_by(),
        )

    def predict(self, labels: Iterable[str | Label] | EncodedQuery) -> Segmentation:
        """Segment the image that was set. All labels compete for every pixel.

        Args:
            labels: texts (`"a dog"`, `"a dog=dog"`, `"cat;kitten=cat"`), `Label`s, or what `prepare` made of them. A
                single one works: see the background rule `auto`.

        Raises:
            ArgumentError: ``labels`` are not texts, or there are none, or a segmenter with another model, templates or
                background rule prepared them.
            UserError: the labels make no sense, see `pacl.prompts.check_labels`.
            RuntimeError: no image was set.

        Warns:
            UnknownWords: prompts have words that a model with a closed vocabulary was never taught.
            UnfamiliarWords: prompts are far from all words that the head was trained on.
            SameEmbedding: prompts of different labels are the same to the model.
            SimilarLabels: labels differ in case, article or plural only.
        """
        if self.image is None:
            raise RuntimeError("call set_image before predict")
        return self.segment(self.image, self._prepare(labels))

    def predict_batch(
        self, images: Iterable[AnyImage], labels: Iterable[str | Label] | EncodedQuery
    ) -> list[Segmentation]:
        """Segment several images with the same labels.

        All images are decoded and encoded together, those of equal size in one pass of the image tower: for thousands
        of images, call it with some at a time.

        Args:
            images: each as for `set_image`; sizes may differ.
            labels: as for `predict`, and with its warnings, once for all images.

        Returns:
            A result for each image, in order.

        Raises:
            ArgumentError: ``images`` is not a list or another sequence; ``images[i]`` is not an image;
                ``labels`` as for `predict`.
            UserError: as for `predict` and `set_image`.

        Warns:
            as for `predict` and `set_image`.
        """
        if not are_several(images):
            reason = "must be a list of images; set_image and predict are for a single one"
            raise ArgumentError("images", f"of type {type(images).__name__}", reason)
        query, images = self._prepare(labels), list(images)
        names = [f"images[{i}]" for i in range(len(images))]
        encoded = self.encode(images, names)
        warn_of_black(images, names)
        settings, about = self.resolved_settings(), self.about_model  # once: checksums of weights take milliseconds
        with inference():
            return [self._label(Evidence.of(each, query, self.model, settings), each, about) for each in encoded]

    def prepare(self, labels: Iterable[str | Label] | EncodedQuery) -> EncodedQuery:
        """Check and embed labels once, for many calls of `predict` or `predict_batch`; see `predict`.

        The result is for segmenters with the same model, templates and background rule; others refuse it.
        """
        return self._prepare(labels)

    @inference()
    def encode(self, images: Sequence[AnyImage], names: Sequence[str]) -> list[EncodedImage]:
        """Encode images without labelling them.

        Args:
            images: each as for `set_image`.
            names: their names in error messages.

        Returns:
            The images for `segment` and `evidence` of segmenters with the same model and settings; others refuse them.
        """
        paths = [os.path.abspath(image) if isinstance(image, (str, Path)) else None for image in images]
        stamps = [file_stamp(path) if path else None for path in paths]
        pixels = [as_tensor(image, name) for image, name in zip(images, names, strict=True)]
        encoded = encode_images([self.model], pixels, self.settings, self.sam)[0]
        sources = zip(encoded, images, paths, stamps, strict=True)
        by = self._made_by()
        return [
            replace(found, source=image, path=path, stamp=stamp, made_by=by) for found, image, path, stamp in sources
        ]

    def _made_by(self) -> dict[str, Any]:
        """What images that are encoded now depend on, for a comparison within the process."""
        return made_by(self.model, self.resolved_settings(), self.sam, quick=True)

    @inference()
    def _prepare(self, labels: Iterable[str | Label] | EncodedQuery) -> EncodedQuery:
        if isinstance(labels, EncodedQuery):
            self._check_query(labels)
            return labels
        clip, asked = self.model.clip, as_labels(labels)
        own = self.background.prompts
        background = [Label(f"background {self.background}", own)] if own else []
        check_labels(
            [*asked, *background],
            count_tokens=clip.count_tokens,
            context_length=clip.context_length,
            templates=self.templates,
        )
        encoded = self.encode_query(asked)
        prompts = [prompt for label in [*asked, *background] for prompt in label.prompts]
        for category, message in doubts(clip, self.vocabulary, self.templates, prompts, encoded):
            warnings.warn(message, category, stacklevel=4)  # the caller of predict
        return encoded

    @inference()
    def encode_query(self, labels: Sequence[Label], background_prompts: Sequence[str] = ()) -> EncodedQuery:
        """Embed labels without the checks of `prepare`; benchmarks have names that these would refuse.

        Args:
            labels: C of them.
            background_prompts: texts of the background that compete beside any background rule.
        """
        query = make_query(labels, self.background, self.model.config, background_prompts)
        return replace(encode_query(self.model, query, self.templates), wording=self._wording())

    def _wording(self) -> Wording:
        return Wording.of(self.model.config, self.settings.templates, self.templates, self.background)

    def _check_query(self, encoded: EncodedQuery) -> None:
        encoded.check(self.model, self._wording())

    @inference()
    def segment(self, image: EncodedImage, encoded: EncodedQuery) -> Segmentation:
        """Label the pixels of an encoded image (see `encode` and `prepare`).

        Raises:
            ArgumentError: the image or the labels are not encoded, or a segmenter with another model or other settings
                encoded the image or prepared the labels.
        """
        for name, given, kind in (("image", image, EncodedImage), ("encoded", encoded, EncodedQuery)):
            if not isinstance(given, kind):
                reason = "is not encoded; call set_image with an image, then predict with labels"
                raise ArgumentError(name, f"of type {type(given).__name__}", reason)
        return self.label(self.evidence(image, encoded), image)

    @inference()
    def evidence(self, image: EncodedImage, encoded: EncodedQuery) -> Evidence:
        """What an encoded image says about the labels: the first half of `segment`, before anything is decided."""
        self._check_query(encoded)
        self._check_image(image)
        return Evidence.of(image, encoded, self.model, self.resolved_settings())

    def _check_image(self, image: EncodedImage) -> None:
        if image.made_by is not None:
            check_made_by("image", image.made_by, self._made_by())

    @inference()
    def label(self, evidence: Evidence, image: EncodedImage) -> Segmentation:
        """Decide the labels of the pixels: the second half of `segment`.

        Args:
            evidence: see `evidence`; it may be an average over the frames of a video.
            image: the encoded image.
        """
        return self._label(evidence, image, self.about_model)

    def _label(self, evidence: Evidence, image: EncodedImage, about_model: dict[str, Any]) -> Segmentation:
        query = evidence.query
        probabilities = evidence.probabilities()
        sharper = None
        if self.sam is not None:
            assert image.sam is not None, "the image was encoded without SAM"
            sharper = sharper_decisions(probabilities, self.sam, image.sam)
        index, pixels, confidence = label_pixels(probabilities, sharper)
        return Segmentation(
            labels=[label.name for label in query.labels],
            prompts=[label.prompts for label in query.labels],
            index=index,
            shares=(pixels[1:] / index.size).tolist(),
            scores=(confidence[1:] / np.maximum(pixels[1:], 1)).tolist(),
            background=str(query.background),
            settings=replace(evidence.settings, background=str(query.background)),
            contents=dict(self.contents),
            model=dict(about_model),
            evidence=evidence,
            source=image.source,
            path=image.path,
            stamp=image.stamp,
        )

    @property
    def about_model(self) -> dict[str, Any]:
        """What describes the model in records, see `Segmentation.model`, as it is now."""
        model, config = self.model, self.model.config
        return {
            **({"name": model.name} if model.name else {}),
            **{"clip": config.backbone, "dense": config.dense, "trained": config.trained},
            "weights": identity.digest(identity.whole(model, quick=True)),
        }

    @cached_property
    def contents(self) -> dict[str, Any]:
        """What settings that are files or folders held, for records: their names do not tell when it changes."""
        is_file = str(self.settings.templates) not in TEMPLATE_NAMES
        return {
            **({"template_texts": list(self.templates)} if is_file else {}),
            **({"sam_weights": self.sam.checksum()[:16]} if self.sam else {}),
        }

    def resolved_settings(self, labels: int | None = None) -> SegmenterSettings:
        """The settings, with the values of the model in place of None; results state these.

        Args:
            labels: a number of labels. Given, the background is the rule for so many, which ``auto`` depends on.
        """
        settings, own = self.settings, self.model.config
        background = settings.background
        if labels is not None:
            background = str(self.background.settle(labels, own.calibrated))
        return replace(
            settings,
            background=background,
            size=settings.size or own.size,
            scales=resolved_scales(self.model, settings),
            prior=own.prior if settings.prior is None else settings.prior,
            logit_scale=logit_scale(self.model, settings),
        )


def as_settings(settings: object) -> SegmenterSettings:
    """The settings that a caller gave; None is the defaults.

    Raises:
        ArgumentError: they are something else.
    """
    if settings is None:
        return SegmenterSettings()
    if not isinstance(settings, SegmenterSettings):
        given = settings if isinstance(settings, Mapping) else {}
        names = ", ".join(f"{name}={value!r}" for name, value in given.items()) or "refine=10"
        reason = f"must be SegmenterSettings, such as SegmenterSettings({names})"
        raise ArgumentError("settings", f"of type {type(settings).__name__}", reason)
    return settings


def as_labels(labels: object) -> list[Label]:
    """Parse the labels that a caller gave.

    Raises:
        ArgumentError: ``labels`` are not texts or `Label`s, or there are none; a text is empty.
    """
    given = [labels] if isinstance(labels, (str, Label)) else labels
    if not are_several(given):
        raise ArgumentError("labels", f"of type {type(labels).__name__}", 'must be texts, such as ["a dog", "grass"]')
    given = list(given)
    if not given:
        raise ArgumentError("labels", "[]", 'give at least one text, such as ["a dog"]')
    found = []
    for i, label in enumerate(given):
        if not isinstance(label, (str, Label)):
            reason = "must be a text or a Label"
            if isinstance(label, (list, tuple)) and label and all(isinstance(each, str) for each in label):
                reason += f"; several texts of one label are Label({label[0]!r}, {tuple(label)!r})"
            raise ArgumentError(f"labels[{i}]", f"of type {type(label).__name__}", reason)
        try:
            found.append(label if isinstance(label, Label) else parse_prompt(label))
        except UserError as error:
            raise ArgumentError(f"labels[{i}]", repr(str(label)), str(error)) from None
    return found
