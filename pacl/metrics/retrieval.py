"""Retrieval: phi of a whole gallery in bounded memory, and recall at k of pictures by texts and texts by pictures.

Where phi of all pairs costs too much, a first stage picks candidates by a cheaper score and phi orders those alone.

Shapes: I images, T texts, P patches, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pacl.models.compatibility import compatibility

CHUNK_BYTES = 32 * 2**20
"""Size of the rows of float32 scores that are ranked at a time; a handful of such arrays are alive."""


@dataclass(frozen=True)
class Recalls:
    """Recall at k and median rank, both ways.

    Attributes:
        image_to_text: k -> share of the images, in [0, 1], that have one of their texts among their k best.
        text_to_image: k -> share of the texts, in [0, 1], that have one of their images among their k best.
        image_to_text_rank: median over the images of the rank, from 1, of the best of their texts.
        text_to_image_rank: median over the texts of the rank, from 1, of the best of their images.
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    image_to_text_rank: float
    text_to_image_rank: float

    @property
    def mean(self) -> float:
        """Mean of the recalls at all k both ways, in [0, 1]: "mean recall" where k is 1, 5 and 10."""
        values = [*self.image_to_text.values(), *self.text_to_image.values()]
        return sum(values) / len(values)


@torch.no_grad()
def recalls(scores: Tensor, positives: Tensor, ks: Sequence[int] = (1, 5, 10)) -> Recalls:
    """Recall at k as the literature states it (Hodosh, Young and Hockenmaier, JAIR 2013).

    A query is right at k if ANY of its right items is among its k best. A wrong item with the same score as a
    right one ranks before it, so ties never flatter: constant scores find nothing among many items.

    Args:
        scores: [I, T] floating, higher is better; phi serves as it is.
        positives: [I, T] bool on the same device, True where the text is right for the image: several texts an
            image and several images a text are allowed. Images without a text and texts without an image are no
            queries and stay out of the means, but still stand among the wrong items of the others.
        ks: the k, each at least 1.

    Returns:
        Recalls at these k and median ranks.

    Raises:
        ValueError: shapes or dtypes that do not fit, scores that are not finite, a k below 1, no right pair at all.
    """
    _check(scores, positives, ks)
    return _recalls(_ranks(scores, positives), _ranks(scores.T, positives.T), ks)


def _check(scores: Tensor, positives: Tensor, ks: Sequence[int]) -> None:
    if scores.ndim != 2 or not scores.is_floating_point():
        raise ValueError(f"scores must be floating [I, T], got {list(scores.shape)} {scores.dtype}")
    if positives.shape != scores.shape or positives.dtype != torch.bool:
        raise ValueError(f"positives must be bool {list(scores.shape)}, got {list(positives.shape)} {positives.dtype}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks are {list(ks)}, must be one or more numbers from 1")
    if not positives.any():
        raise ValueError("positives has no right pair: there is nothing to find")


def _recalls(image_ranks: Tensor, text_ranks: Tensor, ks: Sequence[int]) -> Recalls:
    """Of the ranks of the images that have texts, and of the texts that have images."""
    ranks = image_ranks, text_ranks
    image_to_text, text_to_image = ({k: float((r <= k).double().mean()) for k in ks} for r in ranks)
    return Recalls(image_to_text, text_to_image, *(float(r.double().quantile(0.5)) for r in ranks))


def _ranks(scores: Tensor, positives: Tensor) -> Tensor:
    """Rank, from 1, of the best right item of every row that has one: int64, at most as many as rows."""
    ranks = []
    for rows in _slices(len(scores), max(1, CHUNK_BYTES // (4 * scores.shape[1]))):
        score, right = scores[rows], positives[rows]
        if not score.isfinite().all():
            raise ValueError("scores hold values that are no finite numbers: they cannot be ranked")
        best = score.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        before = ((score >= best) & ~right).sum(dim=1)
        ranks.append(1 + before[right.any(dim=1)])
    return torch.cat(ranks)


@torch.no_grad()
def gallery(
    patches: Tensor,
    texts: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    batch: int = 64,
    device: torch.device | str | None = None,
) -> Tensor:
    """phi of every image with every text, where neither the patches nor the pairs fit the device at once.

    Beside its inputs and result it holds the patches of one batch of images and what `compatibility` needs.

    Args:
        patches: v, [I, P, D] floating of any precision, unit vectors along D. They may be mapped from a file: they
            are read once, in order.
        texts: t, [T, D] floating, unit vectors along D.
        temperature: as in `pacl.models.compatibility.compatibility`, like ``cosine``.
        cosine: whether phi is a cosine.
        batch: images that are on the device at a time.
        device: where to compute; ``None`` is where the texts are.

    Returns:
        phi, float32 [I, T], on the CPU. No gradient.

    Raises:
        ValueError: as `compatibility`, or a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}, must be 1 image or more")
    texts = texts.to(device)
    phi = torch.empty(len(patches), len(texts))  # [I, T]
    for rows in _slices(len(patches), batch):
        phi[rows] = compatibility(patches[rows].to(texts.device), texts, temperature=temperature, cosine=cosine)
    return phi


@torch.no_grad()
def phi_of_pairs(
    patches: Tensor,
    texts: Tensor,
    pairs: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """phi of chosen pairs, image by image: the patches are read once, in order, and only those of one are held.

    Args:
        patches: v, [I, P, D] floating of any precision, unit vectors along D; they may be mapped from a file.
        texts: t, [T, D] floating, unit vectors along D.
        pairs: int64 [N, 2] on the CPU, (image, text) in any order.
        temperature: as in `pacl.models.compatibility.compatibility`, like ``cosine``.
        cosine: whether phi is a cosine.
        device: where to compute; ``None`` is where the texts are.

    Returns:
        phi, float32 [N], on the CPU. No gradient.
    """
    texts = texts.to(device)
    phi = torch.empty(len(pairs))  # [N]
    order = pairs[:, 0].argsort(stable=True)
    first = 0
    for image, count in enumerate(pairs[:, 0].bincount(minlength=len(patches)).tolist()):
        own = order[first : first + count]
        first += count
        if count:
            v, t = patches[image : image + 1].to(texts.device), texts[pairs[own, 1].to(texts.device)]
            phi[own] = compatibility(v, t, temperature=temperature, cosine=cosine)[0].float().cpu()
    return phi


@torch.no_grad()
def reranked_recalls(
    scores: Tensor,
    positives: Tensor,
    patches: Tensor,
    texts: Tensor,
    first: int = 128,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    ks: Sequence[int] = (1, 5, 10),
    device: torch.device | str | None = None,
) -> Recalls:
    """Recall at k where a cheap score picks candidates and phi orders them.

    Every image has its ``first`` best texts for candidates, and every text its ``first`` best images. phi orders the
    candidates; all others follow, in the order of the cheap score. phi is computed for (I + T) x ``first`` pairs
    instead of I x T. With as many candidates as there are items this is `recalls` of phi.

    Args:
        scores: [I, T] floating on the CPU, the cheap score, such as the cosine of CLIP's pooled embeddings.
        positives: [I, T] bool on the CPU, as in `recalls`.
        patches: as in `phi_of_pairs`, like all that follows but ``ks``.
        texts: as there.
        first: candidates of a query, at least 1. Which of equally good ones at the border are in is left to chance.
        temperature: as there.
        cosine: as there.
        ks: the k, each at least 1.
        device: as there.

    Raises:
        ValueError: as `recalls`, or ``first`` below 1.
    """
    _check(scores, positives, ks)
    if first < 1:
        raise ValueError(f"first is {first}, must be 1 candidate or more")
    images, captions = scores.shape
    texts_of, images_of = _candidates(scores, first), _candidates(scores.T, first)  # [I, K], [T, K]
    pairs = torch.cat(
        [
            torch.stack([torch.arange(images).repeat_interleave(texts_of.shape[1]), texts_of.flatten()], dim=1),
            torch.stack([images_of.flatten(), torch.arange(captions).repeat_interleave(images_of.shape[1])], dim=1),
        ]
    )  # [N, 2]
    phi = phi_of_pairs(patches, texts, pairs, temperature=temperature, cosine=cosine, device=device)
    of_images, of_texts = phi.split([texts_of.numel(), images_of.numel()])
    return _recalls(
        _reranked(scores, positives, texts_of, of_images.view_as(texts_of)),
        _reranked(scores.T, positives.T, images_of, of_texts.view_as(images_of)),
        ks,
    )


def _candidates(scores: Tensor, first: int) -> Tensor:
    """The best items of every row: int64 [Q, K], K at most as many as there are."""
    K = min(first, scores.shape[1])
    rows = _slices(len(scores), max(1, CHUNK_BYTES // (4 * scores.shape[1])))
    return torch.cat([scores[some].topk(K, dim=1).indices for some in rows])


def _reranked(scores: Tensor, positives: Tensor, candidates: Tensor, phi: Tensor) -> Tensor:
    """As `_ranks`, with the candidates [Q, K] in the order of their phi [Q, K] before all others."""
    if not phi.isfinite().all():
        raise ValueError("phi holds values that are no finite numbers: they cannot be ranked")
    right = positives.gather(1, candidates)  # [Q, K]
    best = phi.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    among = 1 + ((phi >= best) & ~right).sum(dim=1)
    # Where no candidate is right, all of them stand before the best right item, as they did by the cheap score.
    wanted = positives.any(dim=1)
    return torch.where(right.any(dim=1)[wanted], among[wanted], _ranks(scores, positives))


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, count, step))
