"""Symmetric InfoNCE over the compatibilities of a batch, with any number of right texts an image.

Shapes: B images, T texts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pacl.distributed import logsumexp_over_ranks, sum_over_ranks


def contrastive_loss(logits: Tensor, positives: Tensor | None = None, *, over_ranks: bool = False) -> Tensor:
    """Half of the image-to-text plus half of the text-to-image cross-entropy.

    Each image contributes the mean over its right texts of -log softmax(its row), each text the mean over its
    right images of -log softmax(its column); these are averaged over the images and over the texts. With one
    right text each this is CLIP's loss (Radford et al., 2021, figure 3). An image without a right text, or a
    text without a right image, has no term and is left out of its mean, but still competes with the others.

    Args:
        logits: [B, T] floating, logit_scale * phi.
        positives: [B, T] bool, True where the text is right for the image. None: T == B, text i is image i's.
        over_ranks: the batch is that of all processes: ``logits`` are the rows of this process's images (their
            number may differ, and be 0), and the columns are the same texts on every one
            (`pacl.distributed.merge_texts`). Every process returns the global loss, see `pacl.distributed` for
            its gradients.

    Returns:
        The loss, a scalar >= 0: float64 if the logits are, else float32.

    Raises:
        ValueError: shapes or dtypes that do not fit, or no right pair at all.
    """
    positives = _positives(logits, positives)
    everyones: Callable[[Tensor], Tensor] = sum_over_ranks if over_ranks else lambda x: x
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision rounds a softmax's sum
    # Wrong pairs are filled, not multiplied by 0: their log-probability may be -inf.
    right_logits = logits.masked_fill(~positives, 0)

    texts = positives.sum(dim=1)  # right ones of each image [B]
    of_images = (logits.logsumexp(1) - right_logits.sum(1) / texts.clamp_min(1))[texts > 0].sum()
    images = everyones(positives.sum(dim=0))  # right ones of each text [T]
    if not images.any():
        raise ValueError("positives has no right pair: there is nothing to learn from")
    normaliser = logits.logsumexp(0)  # [T]
    normaliser = logsumexp_over_ranks(normaliser) if over_ranks else normaliser
    of_texts = normaliser[images > 0].sum() - everyones((right_logits.sum(0) / images.clamp_min(1)).sum())
    return (everyones(of_images) / everyones((texts > 0).sum()) + of_texts / (images > 0).sum()) / 2


@torch.no_grad()
def in_batch_accuracy(logits: Tensor, positives: Tensor | None = None) -> Tensor:
    """Share of the images (of those that have a right text) whose best text is a right one.

    Args:
        logits: [B, T] floating; any increasing function of phi serves.
        positives: as in `contrastive_loss`.

    Returns:
        A float32 scalar in [0, 1].

    Raises:
        ValueError: as `contrastive_loss`.
    """
    positives = _positives(logits, positives)
    right = positives.gather(1, logits.argmax(dim=1, keepdim=True)).squeeze(1)
    return right.sum() / positives.any(dim=1).sum()


def _positives(logits: Tensor, positives: Tensor | None) -> Tensor:
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating [B, T], got {list(logits.shape)} {logits.dtype}")
    if positives is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(f"{logits.shape[0]} images and {logits.shape[1]} texts need a mask of the right pairs")
        positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    elif positives.shape != logits.shape or positives.dtype != torch.bool:
        raise ValueError(f"positives must be bool {list(logits.shape)}, got {list(positives.shape)} {positives.dtype}")
    return positives
