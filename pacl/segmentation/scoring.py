"""From cosines at patches to a label for every pixel.

    cosines [T,N,h,w] --patch_scores--> scores [T,N,h,w] --bands of rows--> [N,rows,W]
    --class_probabilities--> [K,rows,W] --decide--> ids [rows,W]

Shapes: T windows, N prompts, C labels, K classes that compete (the labels, and the background where it does).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from pacl.models.towers.grid import PatchGrid
from pacl.segmentation.background import Background
from pacl.segmentation.encode import EncodedImage
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.query import EncodedQuery, Query
from pacl.segmentation.refine import refine
from pacl.segmentation.settings import DILATIONS, SegmenterSettings
from pacl.segmentation.windows import WindowLayout

if TYPE_CHECKING:
    from pacl.models.model import PACL


def label_image(
    image: EncodedImage, cosines: PatchMaps, encoded: EncodedQuery, model: PACL, settings: SegmenterSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label every pixel of an image.

    Args:
        image: Patch vectors and the guide of refinement.
        cosines: Of its patches with the N prompts, values [T, N, h, w].
        encoded: What competes.
        model: Its calibration, prior and logit scale are used, where the settings leave them to it.
        settings: Those of prior, logit_scale, min_area, refine, refine_on and dilations are read.

    Returns:
        As `label_pixels`.
    """
    query = encoded.query
    if settings.refine and settings.refine_on == "cosines":
        assert image.guide is not None, "the image was encoded without refinement"
        cosines = refined(cosines, image.guide, settings)
    scores = patch_scores(cosines, image.patches, encoded.texts, model, query.background, settings.prior)
    margins = torch.tensor([query.margin * (i == 0) for i in query.channels], device=scores.values.device)
    # Upsampling is linear, so the margin and the scale are applied at the patches, where the maps are small.
    values = (scores.values - margins[:, None, None]) * logit_scale(model, settings)
    return label_pixels(replace(scores, values=values), query, settings, image.guide)


def logit_scale(model: PACL, settings: SegmenterSettings) -> float:
    """Factor on the cosines: that of the settings, else the model's own."""
    return settings.logit_scale or float(model.logit_scale.detach())


def patch_scores(
    cosines: PatchMaps,
    patches: PatchMaps,
    texts: Tensor,
    model: PACL,
    background: Background,
    prior: float | None = None,
) -> PatchMaps:
    """Scores that compete at each patch: cosines, minus each text's mean cosine, plus its prior.

    Args:
        cosines: Of the patches with the N prompts, values [T, N, h, w].
        patches: Patch vectors of all windows of the image, values [T, D, h, w].
        texts: Unit vectors of the prompts [N, D].
        model: A calibrated one knows each text's mean cosine over patches of many photos, which is subtracted.
        background: The rule; under `peak` its level is one more channel, the first.
        prior: Weight of phi, which the model pools as its head does; None is the model's own. Where it is negative, phi
            is clamped from below at the model's `presence`: labels that are not in the image get no more than one that
            is barely there.

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
        # Where nothing is present the level is above every score.
        present = highest >= model.config.presence
        level = torch.where(present, background.limit * highest + added[best], scores.max() + 1)
        scores = torch.cat([level.expand_as(scores[:, :1]), scores], dim=1)
    return replace(cosines, values=scores)


def class_probabilities(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Softmax over all N prompts, then the maximum over the prompts of each class: [N, ...] -> [K, ...].

    This is the order of the SCLIP family's protocols: the max is taken AFTER the softmax, so synonyms do not add up
    and the probabilities of a pixel sum to 1 only when every class has one prompt.
    """
    probabilities = logits.softmax(0)  # [N, ...]
    counts = [ids.count(i) for i in dict.fromkeys(ids)]
    if len(counts) == len(ids):
        return probabilities
    return torch.stack([part.amax(0) for part in probabilities.split(counts)])  # [K, ...]


def decide(probabilities: Tensor, classes: Tensor, background: Background) -> tuple[Tensor, Tensor]:
    """The most probable class of each pixel.

    Args:
        probabilities: [K, ...].
        classes: int64 [K], their ids.
        background: Where its rule rejects a pixel the id is 0.

    Returns:
        The ids [...], and the highest probabilities [...].
    """
    confidence, winner = probabilities.max(0)  # [...]
    index = classes[winner]
    rejected = background.rejects(probabilities)
    return (index if rejected is None else index.masked_fill(rejected, 0)), confidence


def label_pixels(
    logits: PatchMaps, query: Query, settings: SegmenterSettings, guide: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label every pixel of an image by the scaled scores of its patches.

    Args:
        logits: Values [T, N, h, w] for the N channels of the query.
        query: What competes.
        settings: Those of min_area, refine, refine_on and dilations are read.
        guide: float [3, h, w] in [0, 1], the small image that probabilities are refined against.

    Returns:
        index [H, W] (uint8, or uint16 above 255 labels); number of pixels of each id, int64 [C + 1]; sum of the
        winners' probabilities over the pixels of each id, float64 [C + 1].
    """
    classes = torch.tensor(query.classes, device=logits.values.device)  # [K]
    total = len(query.labels) + 1
    index = np.empty(logits.layout.size, np.uint8 if total <= 256 else np.uint16)  # [H, W]
    pixels = np.zeros(total, np.int64)
    scores = np.zeros(total, np.float64)
    maps, as_probabilities = logits, False
    if settings.refine and settings.refine_on == "probabilities":
        assert guide is not None, "the image was encoded without refinement"
        maps, as_probabilities = refined_probabilities(logits, query, settings, guide), True  # [1, K, h, w]

    def bands() -> Iterator[tuple[int, int, Tensor]]:
        """The probabilities of the classes [K, rows, W], band by band."""
        for start, stop, band in maps.bands():  # [N, rows, W]
            yield start, stop, band if as_probabilities else class_probabilities(band, query.channels)

    kept = large_enough(bands(), classes, settings.min_area) if settings.min_area else None  # [K]
    for start, stop, probabilities in bands():
        if kept is not None:
            probabilities = probabilities * kept[:, None, None]
        ids, confidence = (x.cpu().numpy() for x in decide(probabilities, classes, query.background))  # [rows, W]
        index[start:stop] = ids
        pixels += np.bincount(ids.ravel(), minlength=total)
        scores += np.bincount(ids.ravel(), confidence.ravel(), minlength=total)
    return index, pixels, scores


def large_enough(bands: Iterable[tuple[int, int, Tensor]], classes: Tensor, min_area: float) -> Tensor:
    """bool [K]: the classes with more than ``min_area`` of the pixels that labels win; id 0 always stays.

    Where none would stay, the largest does.

    Args:
        bands: Class probabilities [K, rows, W], band by band.
        classes: int64 [K], the ids.
        min_area: A share, in [0, 1).
    """
    area = sum(torch.bincount(p.argmax(0).flatten(), minlength=len(classes)) for _, _, p in bands)  # [K]
    area = torch.where(classes == 0, 0, area)
    kept = (area > min_area * area.sum()) | (classes == 0)
    return kept if kept.any() else area == area.max()


def refined(cosines: PatchMaps, guide: Tensor, settings: SegmenterSettings) -> PatchMaps:
    """Cosines of all N prompts at the image's own size, refined against the guide [3, H, W]; values [1, N, H, W].

    The one place where a map of every prompt exists at full size: 4 N H W bytes, and as much again during refinement.
    """
    maps = torch.cat([band for _, _, band in cosines.bands()], dim=1)  # [N, H, W]
    maps = refine(maps, guide.to(maps.device), settings.refine, settings.dilations or DILATIONS["cosines"])
    return pixel_maps(maps, cosines.layout.size)


def refined_probabilities(logits: PatchMaps, query: Query, settings: SegmenterSettings, guide: Tensor) -> PatchMaps:
    """Class probabilities at the size of the guide [3, h, w], refined against it; values [1, K, h, w]."""
    h, w = guide.shape[1:]
    rows = [class_probabilities(band, query.channels) for _, _, band in logits.bands((h, w))]  # [K, rows, w] each
    maps = torch.cat(rows, dim=1)  # [K, h, w]
    maps = refine(maps, guide.to(maps.device), settings.refine, settings.dilations or DILATIONS["probabilities"])
    return pixel_maps(maps, logits.layout.size)


def pixel_maps(maps: Tensor, size: tuple[int, int]) -> PatchMaps:
    """Maps [K, h, w] with a value for every pixel of an image that was resized to h x w from ``size``."""
    h, w = maps.shape[1:]
    return PatchMaps(maps[None], PatchGrid(h, w, patch=1, stride=1), WindowLayout(size, (h, w), (h, w), (0,), (0,)))
