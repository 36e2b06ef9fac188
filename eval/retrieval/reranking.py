"""Two-stage retrieval, for sets where phi of all pairs is too expensive: phi reranks what a cheaper score selects.

Shapes: I images, T texts, P patches, D embedding, Q queries (images or texts), K candidates of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pacl.metrics.retrieval import CHUNK_BYTES, Recalls, best_ranks, check_pairs, recalls_of_ranks, slices
from pacl.models.compatibility import compatibility


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
    """phi of given pairs. Patches are read once, in order, with one image in memory at a time.

    Args:
        patches: patch embeddings [I, P, D], floating of any precision, unit norm; they may be memory-mapped.
        texts: text embeddings [T, D], floating, unit norm.
        pairs: indices (image, text), int64 [N, 2] on the CPU, in any order.
        temperature: pooling temperature, see `pacl.models.compatibility.compatibility`.
        cosine: whether phi is a cosine, see there.
        device: where to compute; ``None`` is the device of the texts.

    Returns:
        phi, float32 [N], on the CPU, without gradient.
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
    candidates: int = 128,
    *,
    temperature: float | Tensor = 1.0,
    cosine: bool = True,
    ks: Sequence[int] = (1, 5, 10),
    device: torch.device | str | None = None,
) -> Recalls:
    """Recall at k of two-stage retrieval: a cheap score selects candidates, and phi reranks them.

    The candidates of a query (an image or a text) are its best items by the cheap score. They are ranked first, in the
    order of phi; all other items follow, in the order of the cheap score. phi is computed for (I + T) x ``candidates``
    pairs instead of I x T. If all items are candidates, the result equals `recalls` of phi.

    Args:
        scores: the cheap score, [I, T] floating on the CPU, such as the cosine of CLIP's pooled embeddings.
        positives: [I, T] bool on the CPU, as in `recalls`.
        patches, texts, temperature, cosine, device: as in `score_pairs`.
        candidates: number of candidates per query, at least 1. Ties at the last place are broken arbitrarily.
        ks: values of k, each at least 1.

    Returns:
        Recalls at these k, and median ranks.

    Raises:
        ValueError: ``candidates`` is below 1, or an input is refused by `recalls`.
    """
    check_pairs(scores, positives, ks)
    if candidates < 1:
        raise ValueError(f"candidates {candidates}: must be at least 1")
    images, captions = scores.shape
    texts_of, images_of = _best(scores, candidates), _best(scores.T, candidates)  # [I, K], [T, K]
    pairs = torch.cat(
        [
            torch.stack([torch.arange(images).repeat_interleave(texts_of.shape[1]), texts_of.flatten()], dim=1),
            torch.stack([images_of.flatten(), torch.arange(captions).repeat_interleave(images_of.shape[1])], dim=1),
        ]
    )  # [N, 2]
    phi = score_pairs(patches, texts, pairs, temperature=temperature, cosine=cosine, device=device)
    of_images, of_texts = phi.split([texts_of.numel(), images_of.numel()])
    return recalls_of_ranks(
        _reranked(scores, positives, texts_of, of_images.view_as(texts_of)),
        _reranked(scores.T, positives.T, images_of, of_texts.view_as(images_of)),
        ks,
    )


def _best(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` best items in each row, or of all items if there are fewer: int64 [Q, K]."""
    K = min(count, scores.shape[1])
    chunks = slices(len(scores), max(1, CHUNK_BYTES // (4 * scores.shape[1])))
    return torch.cat([scores[rows].topk(K, dim=1).indices for rows in chunks])


def _reranked(scores: Tensor, positives: Tensor, candidates: Tensor, phi: Tensor) -> Tensor:
    """`best_ranks` with reranking: candidates [Q, K] come before all other items, in the order of their phi [Q, K]."""
    if not phi.isfinite().all():
        raise ValueError("phi must be finite")
    positive = positives.gather(1, candidates)  # [Q, K]
    best = phi.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
    among = 1 + ((phi >= best) & ~positive).sum(dim=1)
    # If no candidate is a positive, reranking does not change the rank of the best positive.
    wanted = positives.any(dim=1)
    return torch.where(positive.any(dim=1)[wanted], among[wanted], best_ranks(scores, positives))
