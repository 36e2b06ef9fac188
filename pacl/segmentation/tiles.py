"""The most probable channel of each pixel where many compete on a CPU, a square tile of pixels at a time.

A tile is small enough for the cache, and the channels of a pixel are neighbours in memory. Upsampling gives each pixel
a weighted mean of patches, so within a tile no channel rises above its highest value there or falls below its lowest.
Only channels whose highest value reaches the greatest of all lowest values can win a pixel of the tile: usually a few
of hundreds. Nothing else is left out: each probability is a share of the softmax over all channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pacl.segmentation.patch_maps import PatchMaps, split_rows

TILE_BYTES = 2**21
"""Size of one float32 [rows, columns, N] tile."""

LOG2_E = math.log2(math.e)
"""The softmax is one of powers of 2, which take half the time of those of e."""

MAX_SPAN = 100.0
"""A softmax is relative to the tile's maximum; where those of pixels span more powers of 2, to each pixel's own."""


def tile_winners(
    logits: PatchMaps, size: tuple[int, int] | None = None, kept: Tensor | None = None
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """The winners of the softmax over all channels of `PatchMaps.bands`, without their probabilities of other channels.

    Args:
        logits: values [T, N, h, w].
        size: height and width; None: those of the image.
        kept: bool [N], the channels that may win; the others count in the softmax only. None: all.

    Yields:
        start, stop, and for those rows the channel that wins each pixel, int64 [stop - start, W], the first of equals,
        and its probability, float32 [stop - start, W].
    """
    height, width = size or logits.layout.size
    down, across = logits.weights((height, width))  # [H, ty * h], [W, tx * w]
    values = logits.joined().permute(1, 2, 0).contiguous() * LOG2_E  # [ty * h, tx * w, N]
    side = max(1, math.isqrt(TILE_BYTES // (4 * values.shape[2])))
    columns = [nonzero_part(across[left:right]) for left, right in split_rows(width, 1, side)]
    for start, stop in split_rows(height, 1, side):
        rows, weights = nonzero_part(down[start:stop])
        band = torch.tensordot(weights, values[rows], 1)  # [rows, tx * w, N]
        tiles = [winners_of(band[:, cols], by_column, kept) for cols, by_column in columns]
        winners, probabilities = zip(*tiles, strict=True)
        yield start, stop, torch.cat(winners, dim=1), torch.cat(probabilities, dim=1)


def winners_of(band: Tensor, weights: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """The winners of one tile and their probabilities, both [rows, columns].

    Args:
        band: logits times `LOG2_E` [rows, w, N], upsampled to rows of pixels and at the w columns of patches around the
            tile.
        weights: of these in each column of pixels, [columns, w].
        kept: as in `tile_winners`.
    """
    highest, lowest = band.amax(0).amax(0), band.amin(0).amin(0)  # [N]
    top, level = highest.max(), lowest.max()  # bounds of each pixel's highest value
    if kept is not None:
        highest, lowest = (bound.masked_fill(~kept, -math.inf) for bound in (highest, lowest))
    able = (highest >= lowest.max()).nonzero()[:, 0]
    scores = weights @ (band - top)  # [rows, columns, N]
    if top - level > MAX_SPAN:
        scores -= scores.amax(-1, keepdim=True)
    score, place = scores.index_select(-1, able).max(-1)  # [rows, columns]
    return able[place], score.exp2() / scores.exp2_().sum(-1)


def nonzero_part(weights: Tensor) -> tuple[slice | Tensor, Tensor]:
    """Which columns of weights [pixels, n] are not all 0, and these columns."""
    used = weights.any(0).nonzero()[:, 0]
    first, last = int(used[0]), int(used[-1])
    part = slice(first, last + 1) if last - first < len(used) else used  # indexing by a slice copies nothing
    return part, weights[:, part]
