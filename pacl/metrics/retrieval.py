"""Image-text retrieval: recall at k in both directions, and phi of all pairs in bounded memory.

Shapes: I images, T texts, P patches, D embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb, nan

import torch
from torch import Tensor

from pacl.models.compatibility import compatibility

CHUNK_BYTES = 32 * 2**20
"""Size of the chunks of float32 scores that are ranked at a time; a few arrays of this size are in memory at once."""


@dataclass(frozen=True)
class Recalls:
    """Recall at k and median rank, in both directions.

    Attributes:
        image_to_text: k -> recall in [0, 1], the share of images with a positive text among the k best texts.
        text_to_image: k -> recall in [0, 1], the share of texts with a positive image among the k best images.
        image_to_text_rank: median over images of the rank of the best positive text; ranks start at 1.
        text_to_image_rank: median over texts of the rank of the best positive image; ranks start at 1.
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
        values = [*self.image_to_text.values(), *self.text_to_image.values()]
        return {
            "recall": sum(values) / len(values),
            **{f"image_to_text_R{k}": share for k, share in self.image_to_text.items()},
            **{f"text_to_image_R{k}": share for k, share in self.text_to_image.items()},
        }

    def percent(self) -> dict[str, float]:
        """Recalls in percent: "i2t R@K" (image to text) and "t2i R@K" for each k, and "mean recall"."""
        found = {f"i2t R@{k}": 100 * value for k, value in self.image_to_text.items()}
        found |= {f"t2i R@{k}": 100 * value for k, value in self.text_to_image.items()}
        return {**found, "mean recall": 100 * self.mean}


@torch.no_grad()
def recalls(scores: Tensor, positives: Tensor, ks: Sequence[int] = (1, 5, 10)) -> Recalls:
    """Recall at k as defined in the literature (Hodosh, Young and Hockenmaier, JAIR 2013).

    A query succeeds at k if any of its positives is among its k best items. A negative with the same score as a
    positive ranks before it, so ties never improve the result.

    Args:
        scores: [I, T] floating, higher is better, such as phi.
        positives: [I, T] bool on the same device, True where the text belongs to the image. An image may have several
            texts and a text several images. An image without texts is not a query, but is a negative for all texts;
            a text without images is a negative for all images.
        ks: values of k, each at least 1.

    Returns:
        Recalls at these k, and median ranks.

    Raises:
        ValueError: shapes or dtypes do not match, scores are not finite, a k is below 1, or there is no positive pair.
    """
    check_pairs(scores, positives, ks)
    return recalls_of_ranks(best_ranks(scores, positives), best_ranks(scores.T, positives.T), ks)


def chance(texts_of: Sequence[int], images_of: Sequence[int], ks: Sequence[int] = (1, 5, 10)) -> Recalls:
    """Recalls expected of a random order.

    A query with m positives among N items succeeds with probability 1 - C(N - m, k) / C(N, k). Where k is N or more
    that is 1, and such a recall says nothing.

    Args:
        texts_of: number of positive texts of each of the I images; those without are no queries.
        images_of: number of positive images of each of the T texts.
        ks: values of k, each at least 1.

    Returns:
        The recalls; their median ranks are not known (NaN).
    """

    def expected(positives: Sequence[int], items: int) -> dict[int, float]:
        counts = Counter(m for m in positives if m)
        missed = {k: sum(n * comb(items - m, k) / comb(items, k) for m, n in counts.items()) for k in ks if k < items}
        return {k: 1 - missed[k] / counts.total() if k in missed else 1.0 for k in ks}

    return Recalls(expected(texts_of, len(images_of)), expected(images_of, len(texts_of)), nan, nan)


def check_pairs(scores: Tensor, positives: Tensor, ks: Sequence[int]) -> None:
    """Raise the errors of `recalls`."""
    if scores.ndim != 2 or not scores.is_floating_point():
        raise ValueError(f"scores must be floating [I, T], got {list(scores.shape)} {scores.dtype}")
    if positives.shape != scores.shape or positives.dtype != torch.bool:
        raise ValueError(f"positives must be bool {list(scores.shape)}, got {list(positives.shape)} {positives.dtype}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks {list(ks)}: must be one or more numbers, each at least 1")
    if not positives.any():
        raise ValueError("positives holds no positive pair")


def recalls_of_ranks(image_ranks: Tensor, text_ranks: Tensor, ks: Sequence[int]) -> Recalls:
    """`Recalls` from the ranks of the best positives, int64 [queries] in each direction."""
    ranks = image_ranks, text_ranks
    image_to_text, text_to_image = ({k: float((r <= k).double().mean()) for k in ks} for r in ranks)
    return Recalls(image_to_text, text_to_image, *(float(r.double().quantile(0.5)) for r in ranks))


def best_ranks(scores: Tensor, positives: Tensor) -> Tensor:
    """Rank, from 1, of the best positive in each row: int64 [R], where R is the number of rows that have a positive."""
    ranks = []
    for rows in slices(len(scores), max(1, CHUNK_BYTES // (4 * scores.shape[1]))):
        score, positive = scores[rows], positives[rows]
        if not score.isfinite().all():
            raise ValueError("scores must be finite")
        best = score.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
        ahead = ((score >= best) & ~positive).sum(dim=1)
        ranks.append(1 + ahead[positive.any(dim=1)])
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
    """phi of every image with every text, for sets whose patches or pairs do not fit into device memory at once.

    Besides inputs and result, memory is needed for the patches of one batch and for `compatibility`.

    Args:
        patches: patch embeddings [I, P, D], floating of any precision, unit norm. They may be memory-mapped: they are
            read once, in order.
        texts: text embeddings [T, D], floating, unit norm.
        temperature: pooling temperature, see `pacl.models.compatibility.compatibility`.
        cosine: whether phi is a cosine, see there.
        batch: number of images on the device at a time.
        device: where to compute; ``None`` is the device of the texts.

    Returns:
        phi, float32 [I, T], on the CPU, without gradient.

    Raises:
        ValueError: ``batch`` is below 1, or an input is refused by `compatibility`.
    """
    if batch < 1:
        raise ValueError(f"batch {batch}: must be at least 1")
    texts = texts.to(device)
    phi = torch.empty(len(patches), len(texts))  # [I, T]
    for rows in slices(len(patches), batch):
        phi[rows] = compatibility(patches[rows].to(texts.device), texts, temperature=temperature, cosine=cosine)
    return phi


def slices(count: int, step: int) -> Iterator[slice]:
    """Slices of ``step`` items, the last perhaps shorter, that cover ``count`` items."""
    return (slice(start, start + step) for start in range(0, count, step))
