"""Segment pictures by words: `Segmenter.set_image` once, `Segmenter.predict` often.

    set_image   picture [H,W,3] -> patch vectors [T,D,h,w]
    predict     labels -> prompts -> texts [N,D]; patches times texts -> cosines [T,N,h,w] -> scores
                -> bands of rows [N,rows,W] -> softmax, best prompt of each label, argmax -> index [H,W]

The class is thin; the functions above it and in `pacl.segmentation.patch_maps` do the work, for the benchmarks too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from pacl.errors import UnfamiliarWords, UserError
from pacl.models.grid import PatchGrid
from pacl.models.precision import resolve_precision
from pacl.models.vocabulary import Vocabulary, say_unfamiliar
from pacl.prompts import Label, check_labels, competitors, get_templates, parse_prompt
from pacl.segmentation.background import Background, parse_background
from pacl.segmentation.patch_maps import EncodedImage, PatchMaps, encode_images
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.windows import Layout

if TYPE_CHECKING:
    from pacl.models.model import PACL, HeadConfig

__all__ = ["Segmentation", "Segmenter", "SegmenterSettings"]

# --- Words ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """What competes for the pixels: prompts, and the id each stands for."""

    labels: tuple[Label, ...]
    prompts: tuple[str, ...]
    """N texts: those of the labels in order, then those of the background."""
    ids: tuple[int, ...]
    """For each prompt i + 1 of its label, or 0 for the background; equal ids are neighbours."""
    background: Background
    """The rule, settled. Under `peak` one more channel competes: a level that is the same everywhere, for id 0."""
    margin: float = 0.0
    """Cosine by which a background prompt must be ahead of the labels' to win a pixel."""
    smallest: float = 0.0
    """Labels that win no more than this share of all labels' pixels give way to the next best (SCLIP, ECCV 2024)."""

    @property
    def channels(self) -> tuple[int, ...]:
        """The ids of what competes: those of the prompts, after that of the level where the rule is `peak`."""
        return (0, *self.ids) if self.background.kind == "peak" else self.ids

    @property
    def classes(self) -> tuple[int, ...]:
        """The ids that occur, each once, in the order of the channels: K = C, or C + 1 where id 0 competes."""
        return tuple(dict.fromkeys(self.channels))


def make_query(labels: Sequence[Label], background: Background, config: HeadConfig) -> Query:
    """Gather the prompts of the labels and of the background.

    Args:
        labels: As `pacl.prompts.check_labels` lets them pass.
        background: The rule; `auto` is settled here.
        config: The model's. Its contrast prompts compete under the rule `contrast`, without those that say what a
            prompt says.

    Raises:
        UserError: The rule makes no sense with these labels.
    """
    prompts = [prompt for label in labels for prompt in label.prompts]
    ids = [i for i, label in enumerate(labels, start=1) for _ in label.prompts]
    background = background.resolve(len(labels), len(prompts), config.presence > 0)
    against: Sequence[str] = background.prompts
    margin = 0.0
    if background.kind == "contrast":
        against, margin = competitors(prompts, config.contrast), config.contrast_margin
        if not against:
            raise UserError("--background contrast: the model has no words that compete with these prompts; use none")
    return Query(tuple(labels), (*prompts, *against), (*ids, *[0] * len(against)), background, margin)


# --- Scores -----------------------------------------------------------------------------------------------------


def patch_scores(
    cosines: PatchMaps,
    patches: PatchMaps,
    texts: Tensor,
    model: PACL,
    background: Background,
    prior: float | None = None,
) -> PatchMaps:
    """What competes at each patch: cosines, less what a text has everywhere, plus what it has of the whole image.

    Args:
        cosines: of the patches with the N prompts, values [T, N, h, w].
        patches: patch vectors of all windows of the image, values [T, D, h, w].
        texts: unit vectors of the prompts [N, D].
        model: a calibrated one knows each text's mean cosine over patches of many photos, which is subtracted.
        background: the rule; under `peak` its level is one more channel, the first.
        prior: weight of phi, which the model pools as its head does it; None is the model's own. Where it is negative,
            no phi counts as less than the model's `presence`: labels that are not in the image are helped no more
            than one that is just there.

    Returns:
        Scores, values [T, N, h, w], or [T, 1 + N, h, w] under `peak`.
    """
    values = cosines.values
    if model.centre is not None:
        values = values - (texts @ model.centre)[:, None, None]
    added = values.new_zeros(len(texts))
    if weight := model.config.prior if prior is None else prior:
        whole = rearrange(patches.values, "t d h w -> 1 (t h w) d")
        phi = model.phi(whole, texts)[0]  # [N]
        added = weight * (phi if weight > 0 else phi.clamp(min=model.config.presence))
    scores = values + added[:, None, None]
    if background.kind == "peak":
        highest, best = values.amax((0, 2, 3)).max(0)
        # Where nothing is present the level is ahead of every score.
        present = highest >= model.config.presence
        level = torch.where(present, background.limit * highest + added[best], scores.max() + 1)
        scores = torch.cat([level.expand_as(scores[:, :1]), scores], dim=1)
    return replace(cosines, values=scores)


def class_probabilities(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Softmax over all N prompts, then each class takes the best of its own: [N, ...] -> [K, ...].

    This is the order of the SCLIP family's protocols: the max is taken AFTER the softmax, so synonyms do not add up
    and the probabilities of a pixel sum to 1 only when every class has one prompt.
    """
    probabilities = logits.softmax(0)  # [N, ...]
    counts = [ids.count(i) for i in dict.fromkeys(ids)]
    if len(counts) == len(ids):
        return probabilities
    return torch.stack([part.amax(0) for part in probabilities.split(counts)])  # [K, ...]


def decide(probabilities: Tensor, classes: Tensor, background: Background) -> tuple[Tensor, Tensor]:
    """Class probabilities [K, ...] and the ids [K] they stand for -> id of the winner [...], its probability [...]."""
    confidence, winner = probabilities.max(0)  # [...]
    index = classes[winner]
    rejected = background.rejects(probabilities)
    return (index if rejected is None else index.masked_fill(rejected, 0)), confidence


def segment(
    logits: PatchMaps, query: Query, refine: int = 0, guide: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label every pixel of a picture.

    Args:
        logits: Scaled scores of its patches, values [T, N, h, w] for the N channels of the query.
        query: What competes.
        refine: Iterations of refinement.
        guide: float [3, h, w] in [0, 1], the picture for the refinement, small.

    Returns:
        index [H, W] (uint8, or uint16 above 255 labels); number of pixels of each id, int64 [C + 1]; sum of the
        winners' probabilities over the pixels of each id, float64 [C + 1].
    """
    classes = torch.tensor(query.classes, device=logits.values.device)  # [K]
    total = len(query.labels) + 1
    index = np.empty(logits.layout.size, np.uint8 if total <= 256 else np.uint16)  # [H, W]
    pixels = np.zeros(total, np.int64)
    scores = np.zeros(total, np.float64)
    maps = logits
    if refine:
        assert guide is not None, "the picture was encoded without refinement"
        maps = refined_probabilities(logits, query, refine, guide)  # [1, K, h, w]

    def bands() -> Iterator[tuple[int, int, Tensor]]:
        """The probabilities of the classes [K, rows, W], band by band."""
        for start, stop, band in maps.bands():  # [N, rows, W]
            yield start, stop, band if refine else class_probabilities(band, query.channels)

    kept = large_enough(bands(), classes, query.smallest) if query.smallest else None  # [K]
    for start, stop, probabilities in bands():
        if kept is not None:
            probabilities = probabilities * kept[:, None, None]
        ids, confidence = (x.cpu().numpy() for x in decide(probabilities, classes, query.background))  # [rows, W]
        index[start:stop] = ids
        pixels += np.bincount(ids.ravel(), minlength=total)
        scores += np.bincount(ids.ravel(), confidence.ravel(), minlength=total)
    return index, pixels, scores


def large_enough(bands: Iterable[tuple[int, int, Tensor]], classes: Tensor, smallest: float) -> Tensor:
    """bool [K]: which classes win more than the share `smallest` of the pixels that labels win; id 0 always stays."""
    area = sum(torch.bincount(p.argmax(0).flatten(), minlength=len(classes)) for _, _, p in bands)  # [K]
    area = torch.where(classes == 0, 0, area)
    return (area > smallest * area.sum()) | (classes == 0)


def refined_probabilities(logits: PatchMaps, query: Query, iterations: int, guide: Tensor) -> PatchMaps:
    """Class probabilities at the size of `guide` [3, h, w], drawn to its edges; values [1, K, h, w]."""
    from pacl.segmentation.refine import refine

    h, w = guide.shape[1:]
    rows = [class_probabilities(band, query.channels) for _, _, band in logits.bands((h, w))]  # [K, rows, w] each
    probabilities = refine(torch.cat(rows, dim=1), guide.to(rows[0].device), iterations)  # [K, h, w]
    layout = Layout(logits.layout.size, (h, w), (h, w), (0,), (0,))
    return PatchMaps(probabilities[None], PatchGrid(h, w, patch=1, stride=1), layout)


# --- The class --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels of one picture."""

    labels: list[str]
    """Names, C of them; `labels[i]` is painted as i + 1."""
    prompts: list[tuple[str, ...]]
    """The prompts of each label."""
    index: np.ndarray
    """[H, W], uint8 (uint16 above 255 labels): 0 is background or none, i + 1 is `labels[i]`."""
    shares: list[float]
    """Part of the picture's pixels that each label won, in [0, 1]; what they lack to 1 is background."""
    scores: list[float]
    """Mean probability of each label over the pixels it won, in [0, 1]; 0 where it won none."""
    background: str
    """The rule that was used; `auto` is settled."""
    settings: SegmenterSettings
    _cosines: PatchMaps = field(repr=False, compare=False)
    _ids: tuple[int, ...] = field(repr=False, compare=False)

    def mask(self, label: str | int) -> np.ndarray:
        """bool [H, W]: the pixels of a label, given by name or position."""
        return self.index == self._position(label) + 1

    def score_map(self, label: str | int) -> np.ndarray:
        """float32 [H, W] in [-1, 1]: cosine of a label, the best of its prompts, upsampled when asked for."""
        wanted = [n for n, i in enumerate(self._ids) if i == self._position(label) + 1]
        maps = replace(self._cosines, values=self._cosines.values[:, wanted])  # [T, N of the label, h, w]
        rows = [band.amax(0).cpu() for _, _, band in maps.bands()]  # [rows, W] each
        return torch.cat(rows).numpy()

    def _position(self, label: str | int) -> int:
        if isinstance(label, str):
            if label not in self.labels:
                raise KeyError(f"no label {label!r}; there are {', '.join(self.labels)}")
            return self.labels.index(label)
        return range(len(self.labels))[label]


class Segmenter:
    """Segments pictures with a `PACL` model. Encoding a picture is the expensive half and happens once a picture.

    Example:
        >>> segmenter = Segmenter(load_model())
        >>> segmenter.set_image(open_image("dog.jpg"))
        >>> segmenter.predict(["a dog", "grass"]).mask("a dog")  # bool [H, W]
        >>> segmenter.predict(["a cat"]).shares                   # the same picture, other words: cheap
    """

    def __init__(self, model: PACL, settings: SegmenterSettings | None = None) -> None:
        self.model = model
        settings = settings or SegmenterSettings()
        self.settings = replace(settings, precision=resolve_precision(settings.precision, model.clip))
        self.background = parse_background(self.settings.background)
        self.templates = get_templates(self.settings.templates)
        self.image: EncodedImage | None = None
        self.vocabulary = Vocabulary(model.config.vocabulary, model.clip.text)
        self._looked_up: set[str] = set()  # prompts; each is warned of once
        patch = model.clip.patch
        for flag in ("size", "window"):
            value = getattr(self.settings, flag)
            if value is not None and value < patch:
                raise UserError(f"--{flag} {value}: must be at least the model's patch size of {patch} pixels")
        size, smallest = self.settings.size or model.config.size, min(self.settings.scales or model.config.scales)
        if round(size * smallest) < patch:
            raise UserError(f"--scales {smallest:g}: {size} pixels times that are less than a patch of {patch}")
        if self.settings.stride is not None and self.settings.stride > patch:
            raise UserError(f"--stride {self.settings.stride}: must be at most the model's patch size of {patch}")

    @torch.inference_mode()
    def set_image(self, image: np.ndarray | Tensor) -> None:
        """Encode one picture, uint8 [H, W, 3] (or a [3, H, W] tensor), for the calls of `predict` that follow."""
        self.image = encode_images([self.model], [image], self.settings)[0][0]

    def predict(self, labels: Sequence[str | Label]) -> Segmentation:
        """Segment the picture that was set. All labels compete for every pixel.

        Args:
            labels: Texts (`"a dog"`, `"a dog=dog"`, `"cat;kitten=cat"`) or `Label`s. One alone works: under the
                default background rule it competes with words that the model carries.

        Warns:
            UnfamiliarWords: Prompts are far from all words that the head was trained on; of each once.
        """
        if self.image is None:
            raise RuntimeError("call set_image before predict")
        return self._segment(self.image, *self._ask(labels))

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray | Tensor], labels: Sequence[str | Label]) -> list[Segmentation]:
        """Segment several pictures, of equal or different sizes, with the same labels; see `set_image`, `predict`."""
        query, texts = self._ask(labels)
        return [self._segment(image, query, texts) for image in encode_images([self.model], images, self.settings)[0]]

    @torch.inference_mode()
    def _ask(self, labels: Sequence[str | Label]) -> tuple[Query, Tensor]:
        """Labels -> what competes, and the unit vectors [N, D] of its prompts."""
        labels = [labels] if isinstance(labels, str) else labels
        clip = self.model.clip
        asked = [label if isinstance(label, Label) else parse_prompt(label) for label in labels]
        behind = [Label(f"--background {self.background}", self.background.prompts)] if self.background.prompts else []
        check_labels(
            [*asked, *behind],
            count_tokens=clip.count_tokens,
            context_length=clip.context_length,
            templates=self.templates,
        )
        self._warn_of_unfamiliar([prompt for label in [*asked, *behind] for prompt in label.prompts])
        query = make_query(asked, self.background, self.model.config)
        return query, self.model.encode_prompts(query.prompts, self.templates).float()

    def _warn_of_unfamiliar(self, prompts: Sequence[str]) -> None:
        new = [prompt for prompt in prompts if prompt not in self._looked_up]
        self._looked_up.update(new)
        if found := self.vocabulary.unfamiliar(new):
            warnings.warn(say_unfamiliar(found), UnfamiliarWords, stacklevel=5)

    def _settled(self, scale: float) -> SegmenterSettings:
        """The settings that held, the model's own among them: results state these."""
        settings, own = self.settings, self.model.config
        return replace(
            settings,
            size=settings.size or own.size,
            scales=settings.scales or tuple(own.scales),
            prior=own.prior if settings.prior is None else settings.prior,
            logit_scale=scale,
        )

    @torch.inference_mode()
    def _segment(self, image: EncodedImage, query: Query, texts: Tensor) -> Segmentation:
        cosines = image.patches.similarity(texts)  # values [T, N, h, w]
        scale = self.settings.logit_scale or float(self.model.logit_scale.detach())
        scores = patch_scores(cosines, image.patches, texts, self.model, query.background, self.settings.prior)
        behind = torch.tensor([query.margin * (i == 0) for i in query.channels], device=texts.device)
        # Upsampling is linear: shifted and scaled where it is small.
        logits = replace(scores, values=(scores.values - behind[:, None, None]) * scale)
        index, pixels, confidence = segment(logits, query, self.settings.refine, image.guide)
        return Segmentation(
            labels=[label.name for label in query.labels],
            prompts=[label.prompts for label in query.labels],
            index=index,
            shares=(pixels[1:] / index.size).tolist(),
            scores=(confidence[1:] / np.maximum(pixels[1:], 1)).tolist(),
            background=str(query.background),
            settings=self._settled(scale),
            _cosines=cosines,
            _ids=query.ids,
        )
