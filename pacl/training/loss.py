"""Symmetric InfoNCE over the compatibilities of a batch, with any number of positive texts per image.

Shapes: B images, T texts.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pacl.distributed import max_over_ranks, rank_count, sums_over_ranks


def contrastive_loss(logits: Tensor, positives: Tensor | None = None, *, over_ranks: bool = False) -> Tensor:
    """Half of the image-to-text plus half of the text-to-image cross-entropy.

    Each image contributes the mean over its positives of -log softmax(its row), each text the mean over its
    positives of -log softmax(its column); these are averaged over the images and over the texts. With one positive
    each this is CLIP's loss (Radford et al., 2021, figure 3). An image or text without positives is left out of its
    mean, but remains a negative for the others.

    Args:
        logits: [B, T] floating, logit_scale * phi.
        positives: [B, T] bool, True where the text belongs to the image. None: T == B, text i belongs to image i alone.
        over_ranks: compute the loss over the images of all processes. ``logits`` are the rows of this process's
            images (their number may differ, and may be 0) and the columns are the same texts on all processes
            (`pacl.distributed.gather_texts`). Every process returns the global loss; for its gradients see
            `pacl.distributed`.

    Returns:
        The loss, a scalar >= 0: float64 if the logits are, else float32.

    Raises:
        ValueError: shapes or dtypes that do not fit, or no positive pair.
    """
    positives = _positives(logits, positives)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision rounds a softmax's sum
    # Negatives are filled, not multiplied by 0: their log-probability may be -inf.
    positive_logits = logits.masked_fill(~positives, 0)

    texts = positives.sum(dim=1)  # positives of each image [B]
    of_images = (logits.logsumexp(1) - positive_logits.sum(1) / texts.clamp_min(1))[texts > 0].sum()
    normaliser = logits.logsumexp(0)  # [T], of this process's images
    top = max_over_ranks(normaliser) if over_ranks else normaliser.detach()
    top = top.masked_fill(top.isneginf(), 0)  # subtracted, so that exp does not overflow
    # All that the processes add up, in one operation; counts below 2^24 are exact in float32.
    sums = [of_images, texts.count_nonzero(), positives.sum(0), positive_logits.sum(0), (normaliser - top).exp()]
    of_images, image_count, images, of_positives, shares = sums_over_ranks(*sums) if over_ranks else sums
    if not images.any():  # [T], positives of each text
        raise ValueError("positives holds no positive pair")
    of_texts = (shares.log() + top)[images > 0].sum() - (of_positives / images.clamp_min(1)).sum()
    return (of_images / image_count + of_texts / (images > 0).sum()) / 2


@torch.no_grad()
def in_batch_accuracy(logits: Tensor, positives: Tensor | None = None) -> Tensor:
    """Share of the images (of those that have positives) whose best text is a positive.

    Args:
        logits: [B, T] floating; any increasing function of phi gives the same result.
        positives: as in `contrastive_loss`.

    Returns:
        A float32 scalar in [0, 1].

    Raises:
        ValueError: as `contrastive_loss`.
    """
    positives = _positives(logits, positives)
    correct = positives.gather(1, logits.argmax(dim=1, keepdim=True)).squeeze(1)
    return correct.sum() / positives.any(dim=1).sum()


def without_negatives(parameters: Iterable[nn.Parameter]) -> Tensor | None:
    """What a training step returns whose batch, of all processes, has fewer than two images, as others are unreadable.

    Args:
        parameters: those that train.

    Returns:
        None, which skips the step; under DDP, which cannot skip one, a loss whose gradient is zero.
    """
    return None if rank_count() == 1 else torch.stack([parameter.sum() for parameter in parameters]).sum() * 0


def _positives(logits: Tensor, positives: Tensor | None) -> Tensor:
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating [B, T], got {list(logits.shape)} {logits.dtype}")
    if positives is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(f"{logits.shape[0]} images and {logits.shape[1]} texts: positives must be given")
        positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    elif positives.shape != logits.shape or positives.dtype != torch.bool:
        raise ValueError(f"positives must be bool {list(logits.shape)}, got {list(positives.shape)} {positives.dtype}")
    return positives
