"""From cosines at patches to a label for every pixel.

    cosines [T,N,h,w] --Offsets--> scores [T,N,h,w] --bands of rows--> [N,rows,W]
    --class_probabilities--> [K,rows,W] --decide--> ids [rows,W]

Shapes: T windows, N prompts, C labels, K classes that compete (the labels, and the background where it does).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from pacl.segmentation.tiles import tile_winners
from pacl.segmentation.windows import WindowLayout

if TYPE_CHECKING:
    from pacl.models.model import PACL


MANY = 16
"""Channels from which on tiles are faster than bands of rows on a CPU."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the labels of an image are decided from. It is small and holds no model, so that a result can keep it.

    Attributes:
        cosines: of the patches with the N prompts, values [T, N, h, w].
        query: what competes.
        offsets: what is added to the cosines.
        guide: float [3, h, w] in [0, 1], what refinement follows; None when it is off.
        settings: of these, min_area, refine, refine_on and dilations are read.
        scale: factor on the scores, see `logit_scale`.
    """

    cosines: PatchMaps
    query: Query
    offsets: Offsets
    guide: Tensor | None
    settings: SegmenterSettings
    scale: float

    @classmethod
    def of(cls, image: EncodedImage, encoded: EncodedQuery, model: PACL, settings: SegmenterSettings) -> Evidence:
        """What an encoded image says about a query; where the settings leave it to the model, its own values hold."""
        return cls(
            image.patches.similarity(encoded.texts),
            encoded.query,
            offsets_of(image.patches, encoded.texts, model, settings.prior),
            image.guide,
            settings,
            logit_scale(model, settings),
        )

    def probabilities(self) -> ClassMaps:
        """The probabilities of the classes that compete, computed anew on each call."""
        cosines, query, settings = self.cosines, self.query, self.settings
        if settings.refine_steps and settings.refine_on == "cosines":
            assert self.guide is not None, "the image was encoded without refinement"
            cosines = refined(cosines, self.guide, settings)
        scores = self.offsets.scores(cosines, query.background)
        margins = torch.tensor([query.margin * (i == 0) for i in query.channels], device=scores.values.device)
        # Upsampling is linear, so the margin and the scale are applied at the patches, where the maps are small.
        values = (scores.values - margins[:, None, None]) * self.scale
        return class_maps(replace(scores, values=values), query, settings, self.guide)


@dataclass(frozen=True, eq=False)
class Offsets:
    """What is added to the cosines of one image with N prompts before they compete.

    Attributes:
        mean: mean cosine [N] of each text over patches of many photos, which is subtracted; None without calibration.
        prior: weighted phi [N] of each text with the whole image.
        presence: score above which a text counts as being in the image; 0 without calibration.
    """

    mean: Tensor | None
    prior: Tensor
    presence: float

    def scores(self, cosines: PatchMaps, background: Background) -> PatchMaps:
        """Scores that compete at each patch: values [T, N, h, w], or [T, 1 + N, h, w] under `peak`."""
        values = cosines.values if self.mean is None else cosines.values - self.mean[:, None, None]
        scores = values + self.prior[:, None, None]
        if background.kind == "peak":
            highest, best = values.amax((0, 2, 3)).max(0)
            # Where nothing is present the level is above every score.
            level = torch.where(
                highest >= self.presence, background.limit * highest + self.prior[best], scores.max() + 1
            )
            scores = torch.cat([level.expand_as(scores[:, :1]), scores], dim=1)
        return replace(cosines, values=scores)


def logit_scale(model: PACL, settings: SegmenterSettings) -> float:
    """Factor on the cosines: that of the settings, else the model's own."""
    return settings.logit_scale or float(model.logit_scale.detach())


def offsets_of(patches: PatchMaps, texts: Tensor, model: PACL, prior: float | None = None) -> Offsets:
    """What is added to the cosines of an image's patches with the prompts.

    Args:
        patches: patch vectors of all windows of the image, values [T, D, h, w].
        texts: unit vectors of the prompts [N, D].
        model: a calibrated one knows each text's mean cosine over patches of many photos.
        prior: weight of phi, which the model pools as its head does; None is the model's own. Where it is negative, phi
            is clamped from below at the model's `presence`: labels that are not in the image get no more than one that
            is barely there.
    """
    added = patches.values.new_zeros(len(texts))
    if weight := model.config.prior if prior is None else prior:
        whole = rearrange(patches.values, "t d h w -> 1 (t h w) d")
        phi = model.phi(whole, texts)[0]  # [N]
        added = weight * (phi if weight > 0 else phi.clamp(min=model.config.presence))
    return Offsets(None if model.centre is None else texts @ model.centre, added, model.config.presence)


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


def decide(probabilities: Tensor, winners: Tensor, background: Background) -> tuple[Tensor, Tensor]:
    """What each pixel becomes.

    Args:
        probabilities: [K, ...].
        winners: the id of the class that wins, int64 [...].
        background: where its rule rejects a pixel the id is 0.

    Returns:
        The ids [...], and the highest probabilities [...].
    """
    rejected = background.rejects(probabilities)
    return (winners if rejected is None else winners.masked_fill(rejected, 0)), probabilities.amax(0)


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Probabilities of the K classes that compete, upsampled when they are asked for.

    Attributes:
        maps: scaled scores of the channels [T, N, h, w], or refined probabilities of the classes [1, K, h, w].
        query: what competes.
        as_probabilities: whether ``maps`` are probabilities already.
        kept: bool [K], False for the classes that are dropped for their small area: they cannot win, and have
            probability 0; None keeps all.
    """

    maps: PatchMaps
    query: Query
    as_probabilities: bool = False
    kept: Tensor | None = None

    def bands(self, size: tuple[int, int] | None = None) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Bands of rows: start, stop, the probabilities [K, stop - start, W], in the order of `Query.classes`, and the
        id that wins each pixel, int64 [stop - start, W], the first of equals.

        The winner has the highest score, or, where probabilities were refined, the highest of these: the softmax keeps
        the order of the scores, but small differences are lost in rounding, and scores far below the highest become 0.

        Args:
            size: height and width; None: those of the image.
        """
        channels = self.query.classes if self.as_probabilities else self.query.channels
        ids = torch.tensor(channels, device=self.maps.values.device)  # [N]
        for start, stop, band in self.maps.bands(size):  # [N, rows, W]
            probabilities = band if self.as_probabilities else class_probabilities(band, self.query.channels)
            if self.kept is not None:
                probabilities = probabilities * self.kept[:, None, None]
                band = band.masked_fill(~self.may_win(ids)[:, None, None], -math.inf)
            yield start, stop, probabilities, ids[band.max(0).indices]

    def may_win(self, ids: Tensor) -> Tensor:
        """bool [N]: whether the class of each id in int64 [N] is kept."""
        classes = torch.tensor(self.query.classes, device=ids.device)  # [K]
        return torch.isin(ids, classes if self.kept is None else classes[self.kept])


def class_maps(logits: PatchMaps, query: Query, settings: SegmenterSettings, guide: Tensor | None = None) -> ClassMaps:
    """The probabilities of the classes, by the scaled scores of an image's patches.

    Args:
        logits: values [T, N, h, w] for the N channels of the query.
        query: what competes.
        settings: those of min_area, refine, refine_on and dilations are read.
        guide: float [3, h, w] in [0, 1], the small image that probabilities are refined against.
    """
    found = ClassMaps(logits, query)
    if settings.refine_steps and settings.refine_on == "probabilities":
        assert guide is not None, "the image was encoded without refinement"
        found = ClassMaps(refined_probabilities(logits, query, settings, guide), query, as_probabilities=True)
    if settings.min_area:
        classes = torch.tensor(query.classes, device=logits.values.device)  # [K]
        winners = (ids for *_, ids in found.bands())
        found = replace(found, kept=large_enough(winners, classes, settings.min_area))
    return found


Decision = tuple[int, int, Tensor, Tensor]
"""Some rows of an image: start, stop, the ids of their pixels [stop - start, W], and the probabilities of these."""


def decisions(probabilities: ClassMaps, size: tuple[int, int] | None = None) -> Iterator[Decision]:
    """The most probable class of each pixel, a band of rows at a time; ``size`` as in `ClassMaps.bands`."""
    if by_tiles(probabilities):
        yield from tile_decisions(probabilities, size)
    else:
        yield from band_decisions(probabilities, size)


def by_tiles(probabilities: ClassMaps) -> bool:
    """Whether tiles give the same decisions as bands of rows, and faster."""
    maps, rule = probabilities.maps, probabilities.query.background
    many = maps.values.device.type == "cpu" and maps.values.shape[1] >= MANY
    upsampled = not probabilities.as_probabilities and (maps.grid.patch, maps.grid.stride) != (1, 1)
    return many and upsampled and rule.kind != "entropy"  # (which needs the probabilities of all classes)


def band_decisions(probabilities: ClassMaps, size: tuple[int, int] | None = None) -> Iterator[Decision]:
    """`decisions` by the probabilities of all classes: the reference for `tile_decisions`."""
    for start, stop, band, winners in probabilities.bands(size):
        yield start, stop, *decide(band, winners, probabilities.query.background)


def tile_decisions(probabilities: ClassMaps, size: tuple[int, int] | None = None) -> Iterator[Decision]:
    """`decisions` by the winners alone. The most probable class is that of the most probable channel."""
    query, kept = probabilities.query, probabilities.kept
    channels = torch.tensor(query.channels)  # [N]
    if kept is not None:
        kept = probabilities.may_win(channels)  # [N]
    for start, stop, winner, probability in tile_winners(probabilities.maps, size, kept):
        ids, rejected = channels[winner], query.background.rejects(probability[None])
        yield start, stop, ids if rejected is None else ids.masked_fill(rejected, 0), probability


def label_pixels(
    probabilities: ClassMaps, decided: Iterable[Decision] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label every pixel of an image by the probabilities of the classes.

    Args:
        probabilities: those of the classes.
        decided: what the pixels become; None: their most probable class, see `decisions`.

    Returns:
        index [H, W] (uint8, or uint16 above 255 labels); number of pixels of each id, int64 [C + 1]; sum of the
        winners' probabilities over the pixels of each id, float64 [C + 1].
    """
    query, maps = probabilities.query, probabilities.maps
    total = len(query.labels) + 1
    index = np.empty(maps.layout.size, np.uint8 if total <= 256 else np.uint16)  # [H, W]
    pixels = np.zeros(total, np.int64)
    scores = np.zeros(total, np.float64)
    for start, stop, *found in decisions(probabilities) if decided is None else decided:
        ids, confidence = (x.cpu().numpy() for x in found)  # [rows, W]
        index[start:stop] = ids
        pixels += np.bincount(ids.ravel(), minlength=total)
        scores += np.bincount(ids.ravel(), confidence.ravel(), minlength=total)
    return index, pixels, scores


def large_enough(winners: Iterable[Tensor], classes: Tensor, min_area: float) -> Tensor:
    """bool [K]: the classes with more than ``min_area`` of the pixels that labels win; id 0 always stays.

    Where none would stay, the largest does.

    Args:
        winners: the ids that win the pixels, int64 [rows, W], band by band.
        classes: int64 [K], the ids.
        min_area: a share, in [0, 1).
    """
    counts = [torch.bincount(ids.flatten(), minlength=int(classes.max()) + 1)[classes] for ids in winners]  # [K] each
    area = torch.where(classes == 0, 0, torch.stack(counts).sum(0))  # [K]
    kept = (area > min_area * area.sum()) | (classes == 0)
    return kept if kept.any() else area == area.max()


def refined(cosines: PatchMaps, guide: Tensor, settings: SegmenterSettings) -> PatchMaps:
    """Cosines of all N prompts at the image's own size, refined against the guide [3, H, W]; values [1, N, H, W].

    The one place where a map of every prompt exists at full size: 4 N H W bytes, and as much again during refinement.
    """
    maps = torch.cat([band for _, _, band in cosines.bands()], dim=1)  # [N, H, W]
    maps = refine(maps, guide.to(maps.device), settings.refine_steps, settings.dilations or DILATIONS["cosines"])
    return pixel_maps(maps, cosines.layout.size)


def refined_probabilities(logits: PatchMaps, query: Query, settings: SegmenterSettings, guide: Tensor) -> PatchMaps:
    """Class probabilities at the size of the guide [3, h, w], refined against it; values [1, K, h, w]."""
    h, w = guide.shape[1:]
    rows = [class_probabilities(band, query.channels) for _, _, band in logits.bands((h, w))]  # [K, rows, w] each
    maps = torch.cat(rows, dim=1)  # [K, h, w]
    maps = refine(maps, guide.to(maps.device), settings.refine_steps, settings.dilations or DILATIONS["probabilities"])
    return pixel_maps(maps, logits.layout.size)


def pixel_maps(maps: Tensor, size: tuple[int, int]) -> PatchMaps:
    """Maps [K, h, w] with a value for every pixel of an image that was resized to h x w from ``size``."""
    h, w = maps.shape[1:]
    return PatchMaps(maps[None], PatchGrid(h, w, patch=1, stride=1), WindowLayout(size, (h, w), (h, w), (0,), (0,)))
