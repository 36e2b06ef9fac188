"""Image-text retrieval: phi of all pairs in bounded memory, recall at k in both directions, and two-stage retrieval.

Where phi of all pairs is too expensive, a cheaper score selects candidates and phi reranks only those.

Shapes: I images, T texts, P patches, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from pacl.models.compatibility import compatibility

CHUNK_BYTES = 32 * 2**20
"""Bytes of float32 scores that are ranked at a time; a few arrays of this size are held at once."""


@dataclass(frozen=True)
class Recalls:
    """Recall at k and median rank, in both directions.

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
        """Mean of the recalls at all k in both directions, in [0, 1]: "mean recall" where k is 1, 5 and 10."""
        return self.figures()["recall"]

    def figures(self) -> dict[str, float]:
        """The recalls by name: "recall", the mean, then "image_to_text_R1" ... "text_to_image_R1" ..."""
        return _figures(self.image_to_text, self.text_to_image)


@torch.no_grad()
def recalls(scores: Tensor, positives: Tensor, ks: Sequence[int] = (1, 5, 10)) -> Recalls:
    """Recall at k as defined in the literature (Hodosh, Young and Hockenmaier, JAIR 2013).

    A query succeeds at k if ANY of its positives is among its k best items. A negative with the same score as a
    positive ranks before it, so ties never improve the result: constant scores find nothing among many items.

    Args:
        scores: [I, T] floating, higher is better, such as phi.
        positives: [I, T] bool on the same device, True where the text belongs to the image; an image may have
            several texts and a text several images. Images without a text and texts without an image are not queries,
            but are negatives for the others.
        ks: values of k, each at least 1.

    Returns:
        Recalls at these k and median ranks.

    Raises:
        ValueError: shapes or dtypes that do not fit, scores that are not finite, a k below 1, no positive pair.
    """
    _check(scores, positives, ks)
    return _recalls(_ranks(scores, positives), _ranks(scores.T, positives.T), ks)


def chance(positives: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recalls expected of a random order, by the names of `Recalls.figures`.

    A query with m positives among N items succeeds with probability 1 - C(N - m, k) / C(N, k); that is 1 where k
    is N or more, and such a recall says nothing.

    Args:
        positives: [I, T] bool, as in `recalls`.
        ks: values of k, each at least 1.
    """

    def expected(rows: Tensor) -> dict[int, float]:
        items = rows.shape[1]
        counts, queries = rows.sum(dim=1).unique(return_counts=True)
        shares = {int(m): int(n) for m, n in zip(counts, queries, strict=True) if m}
        total = sum(shares.values())
        missed = {k: sum(n * comb(items - m, k) / comb(items, k) for m, n in shares.items()) for k in ks if k < items}
        return {k: 1 - missed[k] / total if k in missed else 1.0 for k in ks}

    return _figures(expected(positives), expected(positives.T))


def _figures(image_to_text: Mapping[int, float], text_to_image: Mapping[int, float]) -> dict[str, float]:
    values = [*image_to_text.values(), *text_to_image.values()]
    return {
        "recall": sum(values) / len(values),
        **{f"image_to_text_R{k}": share for k, share in image_to_text.items()},
        **{f"text_to_image_R{k}": share for k, share in text_to_image.items()},
    }


def _check(scores: Tensor, positives: Tensor, ks: Sequence[int]) -> None:
    if scores.ndim != 2 or not scores.is_floating_point():
        raise ValueError(f"scores must be floating [I, T], got {list(scores.shape)} {scores.dtype}")
    if positives.shape != scores.shape or positives.dtype != torch.bool:
        raise ValueError(f"positives must be bool {list(scores.shape)}, got {list(positives.shape)} {positives.dtype}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks {list(ks)}: must be one or more numbers, each at least 1")
    if not positives.any():
        raise ValueError("positives holds no positive pair")


def _recalls(image_ranks: Tensor, text_ranks: Tensor, ks: Sequence[int]) -> Recalls:
    """From the ranks of the images that have texts, and of the texts that have images."""
    ranks = image_ranks, text_ranks
    image_to_text, text_to_image = ({k: float((r <= k).double().mean()) for k in ks} for r in ranks)
    return Recalls(image_to_text, text_to_image, *(float(r.double().quantile(0.5)) for r in ranks))


def _ranks(scores: Tensor, positives: Tensor) -> Tensor:
    """Rank, from 1, of the best positive of every row that has one: int64, at most one a row."""
    ranks = []
    for rows in _slices(len(scores), max(1, CHUNK_BYTES // (4 * scores.shape[1]))):
        score, positive = scores[rows], positives[rows]
        if not score.isfinite().all():
            raise ValueError("scores must be finite")
        best = score.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
        before = ((score >= best) & ~positive).sum(dim=1)
        ranks.append(1 + before[positive.any(dim=1)])
    return torch.cat(ranks)


@torch.no_grad()
def score_all_pairs(
    patches: Tensor,
    texts: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    batch: int = 64,
    device: torch.device | str | None = None,
) -> Tensor:
    """phi of every image with every text, for sets whose patches or pairs do not fit on the device at once.

    Memory beyond inputs and result: the patches of one batch of images, and that of `compatibility`.

    Args:
        patches: v, [I, P, D] floating of any precision, unit vectors along D. They may be memory-mapped: they
            are read once, in order.
        texts: t, [T, D] floating, unit vectors along D.
        temperature: as in `pacl.models.compatibility.compatibility`, like ``cosine``.
        cosine: whether phi is a cosine.
        batch: images on the device at a time.
        device: where to compute; ``None`` is the device of the texts.

    Returns:
        phi, float32 [I, T], on the CPU. No gradient.

    Raises:
        ValueError: as `compatibility`, or a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"batch {batch}: must be at least 1")
    texts = texts.to(device)
    phi = torch.empty(len(patches), len(texts))  # [I, T]
    for rows in _slices(len(patches), batch):
        phi[rows] = compatibility(patches[rows].to(texts.device), texts, temperature=temperature, cosine=cosine)
    return phi


@torch.no_grad()
def score_pairs(
    patches: Tensor,
    texts: Tensor,
    pairs: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """phi of given pairs, image by image: the patches are read once, in order, and held for one image at a time.

    Args:
        patches: v, [I, P, D] floating of any precision, unit vectors along D; they may be memory-mapped.
        texts: t, [T, D] floating, unit vectors along D.
        pairs: int64 [N, 2] on the CPU, (image, text) in any order.
        temperature: as in `pacl.models.compatibility.compatibility`, like ``cosine``.
        cosine: whether phi is a cosine.
        device: where to compute; ``None`` is the device of the texts.

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
    """Recall at k of two-stage retrieval: a cheap score selects candidates and phi reranks them.

    The candidates of an image are its ``first`` best texts, those of a text its ``first`` best images. All other items
    follow, in the order of the cheap score. phi is computed for (I + T) x ``first`` pairs instead of I x T. With as
    many candidates as items the result is `recalls` of phi.

    Args:
        scores: [I, T] floating on the CPU, the cheap score, such as the cosine of CLIP's pooled embeddings.
        positives: [I, T] bool on the CPU, as in `recalls`.
        patches, texts, temperature, cosine, device: as in `score_pairs`.
        first: candidates per query, at least 1. Ties at the last place are broken arbitrarily.
        ks: values of k, each at least 1.

    Raises:
        ValueError: as `recalls`, or ``first`` below 1.
    """
    _check(scores, positives, ks)
    if first < 1:
        raise ValueError(f"first {first}: must be at least 1")
    images, captions = scores.shape
    texts_of, images_of = _candidates(scores, first), _candidates(scores.T, first)  # [I, K], [T, K]
    pairs = torch.cat(
        [
            torch.stack([torch.arange(images).repeat_interleave(texts_of.shape[1]), texts_of.flatten()], dim=1),
            torch.stack([images_of.flatten(), torch.arange(captions).repeat_interleave(images_of.shape[1])], dim=1),
        ]
    )  # [N, 2]
    phi = score_pairs(patches, texts, pairs, temperature=temperature, cosine=cosine, device=device)
    of_images, of_texts = phi.split([texts_of.numel(), images_of.numel()])
    return _recalls(
        _reranked(scores, positives, texts_of, of_images.view_as(texts_of)),
        _reranked(scores.T, positives.T, images_of, of_texts.view_as(images_of)),
        ks,
    )


def _candidates(scores: Tensor, first: int) -> Tensor:
    """The best items of every row: int64 [Q, K], K at most the number of items."""
    K = min(first, scores.shape[1])
    rows = _slices(len(scores), max(1, CHUNK_BYTES // (4 * scores.shape[1])))
    return torch.cat([scores[some].topk(K, dim=1).indices for some in rows])


def _reranked(scores: Tensor, positives: Tensor, candidates: Tensor, phi: Tensor) -> Tensor:
    """As `_ranks`, with the candidates [Q, K] ordered by their phi [Q, K] and ranked before all other items."""
    if not phi.isfinite().all():
        raise ValueError("phi must be finite")
    positive = positives.gather(1, candidates)  # [Q, K]
    best = phi.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
    among = 1 + ((phi >= best) & ~positive).sum(dim=1)
    # Where no candidate is a positive, all of them rank before the best positive, as they did by the cheap score.
    wanted = positives.any(dim=1)
    return torch.where(positive.any(dim=1)[wanted], among[wanted], _ranks(scores, positives))


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, count, step))
