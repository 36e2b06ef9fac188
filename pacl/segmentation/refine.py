"""Refine coarse probability maps along the edges of the image: pixel-adaptive mask refinement (PAMR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

CLASSES_AT_ONCE = 16  # bounds the working memory; classes do not influence each other


@torch.no_grad()
def refine(
    maps: Tensor,
    image: Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
) -> Tensor:
    """Replace every pixel's probabilities by a weighted average over its neighbours, several times.

    The neighbours j of pixel i are the eight of a 3 x 3 window, spread by each dilation. Their weights are a softmax
    over j of -|I_i - I_j| / (0.1 sigma_i), averaged over the colour channels, where sigma_i is the standard deviation
    over these neighbours and, once for each dilation, the pixel itself, as in the authors' code: similarity is relative
    to the local contrast. Beyond the border the nearest pixel is used, so any size works. (Araslanov and Roth,
    "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, section 3.3; the factor 0.1 and the dilations as
    in the authors' settings.)

    Args:
        maps: probabilities [C, H, W]. Averages are convex: what sums to 1 over C still does.
        image: [3, H, W] at the same height and width, float in [0, 1].
        iterations: averaging steps.
        dilations: distances of the neighbours in pixels; larger ones carry labels further.

    Returns:
        Refined maps, same shape and dtype. In addition about 4 * 8 * len(dilations) bytes a pixel are needed for
        the weights (192 MB for a megapixel), so the caller chooses the working resolution.
    """
    if maps.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"maps {tuple(maps.shape)} and image {tuple(image.shape)} differ in height or width")
    weights = _affinity(image.float(), dilations)  # [K, H, W], sums to 1 over the K neighbours
    refined = torch.empty_like(maps)
    for chunk, out in zip(maps.split(CLASSES_AT_ONCE), refined.split(CLASSES_AT_ONCE), strict=True):
        chunk = chunk.float()
        for _ in range(iterations):
            average = torch.zeros_like(chunk)
            for weight, neighbour in zip(weights, _neighbours(chunk, dilations), strict=True):
                average.addcmul_(neighbour, weight)
            chunk = average
        out.copy_(chunk)
    return refined


def _affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Image [3, H, W] -> the weight of each pixel's K neighbours, [K, H, W]."""
    count = len(dilations)  # of the pixel itself
    mean = image.clone()
    scatter = torch.zeros_like(image)
    for neighbour in _neighbours(image, dilations):  # running variance: squares would cancel in float32
        count += 1
        step = neighbour - mean
        mean += step / count
        scatter += step * (neighbour - mean)
    spread = 0.1 * (scatter / (count - 1)).sqrt() + 1e-8  # [3, H, W]
    logits = torch.stack([-((n - image).abs() / spread).mean(0) for n in _neighbours(image, dilations)])
    return logits.softmax(0)


def _neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The values [C, H, W] shifted to each neighbour: views [C, H, W], eight for each dilation."""
    height, width = x.shape[-2:]
    reach = max(dilations)
    padded = pad(x[None], (reach, reach, reach, reach), mode="replicate")[0]
    for d in dilations:
        for dy in (-d, 0, d):
            for dx in (-d, 0, d):
                if dy or dx:
                    top, left = reach + dy, reach + dx
                    yield padded[:, top : top + height, left : left + width]
