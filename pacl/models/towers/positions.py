"""Interpolation of a ViT's learned position embeddings to other patch grids."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.models.towers.grid import PatchGrid


def resample_positions(native: Tensor, size: tuple[int, int], grid: PatchGrid) -> Tensor:
    """Position embedding for a grid: bicubic, sampled at the true patch centres.

    Args:
        native: position embedding of the native grid, ``[h * w, W]``.
        size: the native grid's h and w.
        grid: the new patch grid.

    Returns:
        ``[P, W]``, of the same dtype.
    """
    table = rearrange(native, "(h w) c -> 1 c h w", h=size[0], w=size[1]).float()
    ys, xs = (_relative_centres(n, grid, table.device) for n in (grid.h, grid.w))
    at = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)[None]  # [1, h, w, (x, y)]
    sampled = F.grid_sample(table, at, mode="bicubic", padding_mode="border", align_corners=False)
    return rearrange(sampled, "1 c h w -> (h w) c").to(native.dtype)


def _relative_centres(patches: int, grid: PatchGrid, device: torch.device) -> Tensor:
    """Patch centres in ``grid_sample``'s coordinates: -1 and 1 are the image borders."""
    extent = (patches - 1) * grid.stride + grid.patch
    centres = torch.arange(patches, dtype=torch.float64) * grid.stride + grid.patch / 2
    return (2 * centres / extent - 1).float().to(device)
