"""Patch grids, interpolation of patch values to pixels, and of position embeddings to other grids.

A patch of ``patch`` pixels at index ``i`` starts at pixel ``i * stride`` and is centred at
``i * stride + (patch - 1) / 2`` (pixel centres are integers). Plain resizing of a patch map assumes that the
patches tile the image; with overlapping patches, padding or windows they do not, and the map is shifted by
several pixels. `upsample` interpolates between the true centres instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

PUBLISHED_MARGIN = 0.1
"""Patches that SCLIP, NACLIP, ClearCLIP and ProxyCLIP add to the n of a grid before they interpolate position
embeddings by the factor (n + 0.1) / native n, against rounding. The last patch moves by up to a tenth."""


@dataclass(frozen=True)
class PatchGrid:
    """The patches of one image: ``h`` down, ``w`` across, ``patch`` pixels wide, ``stride`` pixels apart."""

    h: int
    w: int
    patch: int
    stride: int

    @classmethod
    def cover(cls, height: int, width: int, patch: int, stride: int) -> PatchGrid:
        """The smallest grid whose patches cover ``height`` x ``width`` pixels; see `extent`."""

        def count(pixels: int) -> int:
            return 1 + max(0, -(-(pixels - patch) // stride))

        return cls(count(height), count(width), patch, stride)

    @property
    def patches(self) -> int:
        """P, the number of patches."""
        return self.h * self.w

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width in pixels that the patches span."""
        return (self.h - 1) * self.stride + self.patch, (self.w - 1) * self.stride + self.patch


def upsample(
    maps: Tensor,
    grid: PatchGrid,
    size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Interpolate patch values bilinearly between the true patch centres.

    With ``stride == patch`` and sides that are multiples of it this equals
    ``F.interpolate(mode="bilinear", align_corners=False)``; beyond the outermost centres values are constant.

    Args:
        maps: ``[..., h, w]``, any float dtype; one value per patch.
        grid: the patch grid, in pixels of the tower's input.
        size: output ``(H, W)`` in output pixels.
        scale: tower pixels per output pixel ``(y, x)``, e.g. ``resized_H / original_H``.
        offset: tower-pixel position ``(y, x)`` of the grid's first patch corner in the image (for windows).

    Returns:
        ``[..., H, W]`` in float32 (float64 stays float64).
    """
    if maps.shape[-2:] != (grid.h, grid.w):
        raise ValueError(f"maps {tuple(maps.shape[-2:])}: must have the shape of the grid, {(grid.h, grid.w)}")
    maps = maps if maps.dtype == torch.float64 else maps.float()
    down = _linear_weights(size[0], scale[0], offset[0], grid.h, grid, maps)  # [H, h]
    across = _linear_weights(size[1], scale[1], offset[1], grid.w, grid, maps)  # [W, w]
    return (down @ maps) @ across.T  # [..., H, W]


def resample_patches(
    maps: Tensor, grid: PatchGrid, target: PatchGrid, scale: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """`upsample` to the patch centres of another grid of the same image: ``[..., h', w']``; ``scale`` as there."""
    # Patches of the target stand for output pixels, whose centres are in the middle of a stride, not of a patch.
    (y, x), shift = scale, (target.stride - target.patch) / 2
    step = (target.stride * y, target.stride * x)
    return upsample(maps, grid, (target.h, target.w), step, offset=(shift * y, shift * x))


def _linear_weights(pixels: int, scale: float, offset: float, patches: int, grid: PatchGrid, like: Tensor) -> Tensor:
    """Interpolation matrix ``[pixels, patches]``: at most two non-zero weights per row, which sum to 1."""
    # Coordinates are float64, since float32 is too coarse for very wide images, computed on the CPU, since not every
    # accelerator supports float64.
    pixel = torch.arange(pixels, dtype=torch.float64)
    in_tower = (pixel + 0.5) * scale - 0.5 - offset
    at = ((in_tower - (grid.patch - 1) / 2) / grid.stride).clamp(0, patches - 1)
    index = torch.arange(patches, dtype=torch.float64)
    return (1 - (at[:, None] - index).abs()).clamp(min=0).to(like.device, like.dtype)


def is_exporting() -> bool:
    """Whether a graph for any image size is being made: sizes are symbols then, which nothing may be cached for."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def resample_positions(native: Tensor, size: tuple[int, int], grid: PatchGrid, margin: float = 0.0) -> Tensor:
    """Position embedding for a grid: bicubic, sampled at the true patch centres.

    Args:
        native: position embedding of the native grid, ``[h * w, W]``.
        size: the native grid's h and w.
        grid: the new patch grid.
        margin: sample as if the grid had so many more patches along each side, see `PUBLISHED_MARGIN`.

    Returns:
        ``[P, W]``, of the same dtype.
    """
    table = rearrange(native, "(h w) c -> 1 c h w", h=size[0], w=size[1]).float()
    ys, xs = (_relative_centres(n, grid, margin, table.device) for n in (grid.h, grid.w))
    at = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)[None]  # [1, h, w, (x, y)]
    sampled = F.grid_sample(table, at, mode="bicubic", padding_mode="border", align_corners=False)
    return rearrange(sampled, "1 c h w -> (h w) c").to(native.dtype)


def _relative_centres(patches: int, grid: PatchGrid, margin: float, device: torch.device) -> Tensor:
    """Patch centres in ``grid_sample``'s coordinates: -1 and 1 are the image borders."""
    extent = (patches - 1 + margin) * grid.stride + grid.patch
    centres = torch.arange(patches, dtype=torch.float64) * grid.stride + grid.patch / 2
    return (2 * centres / extent - 1).float().to(device)
