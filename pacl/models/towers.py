"""Image towers: how patch tokens come out of each kind of CLIP image encoder, at any size.

`ViTTower` walks through an open_clip ViT itself, which is what the stride trick, arbitrary grids and the dense
variants need. `FeatureTower` covers the rest (timm towers, ResNets) through open_clip's own intermediate features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pacl.errors import UserError
from pacl.models import dense
from pacl.models.grid import PatchGrid

POSITIONS_KEPT = 32  # grids whose interpolated position embeddings are kept


class ViTTower(nn.Module):
    """Patch tokens of an open_clip ``VisionTransformer``, in any dense variant, at any size and stride.

    Attributes:
        patch: patch side in pixels.
        width: token width W.
        variants: dense variants that this tower can do.
        projection: CLIP's visual projection ``[W, D]``.
    """

    visual: Any

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.patch = int(visual.patch_size[0])
        self.width = int(visual.conv1.out_channels)
        last = visual.transformer.resblocks[-1]
        self.variants = dense.VARIANTS if dense.supports_variants(last) else ("clip",)
        self._positions: dict[tuple[PatchGrid, torch.device, torch.dtype], Tensor] = {}

    @property
    def projection(self) -> Tensor | None:
        return self.visual.proj

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None
    ) -> tuple[list[Tensor], PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` -> for each variant, tokens ``[B, P, W]`` after ``ln_post``; their grid.

        All blocks but the last are the same for every variant, and are computed once.
        Pictures that the patches do not tile exactly are padded at the right and bottom by repeating the border.
        """
        v = self.visual
        grid = PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, stride or self.patch)
        images = pad_to(images, grid.extent)
        x = F.conv2d(images, v.conv1.weight, v.conv1.bias, stride=grid.stride)
        x = rearrange(x, "b width h w -> b (h w) width")
        cls = v.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x], dim=1) + self.positions(grid).to(x.dtype)  # [B, 1+P, W]
        x = v.ln_pre(x)
        for block in v.transformer.resblocks[:-1]:
            x = block(x)
        return self.finish(x, grid, variants), grid

    def finish(self, x: Tensor, grid: PatchGrid, variants: Sequence[str]) -> list[Tensor]:
        """The last block's input ``[B, 1+P, W]`` -> its tokens in each variant, ``[B, P, W]`` after ``ln_post``."""
        last = self.visual.transformer.resblocks[-1]
        return [self.visual.ln_post(dense.dense_block(last, x, grid, variant)) for variant in variants]

    def positions(self, grid: PatchGrid) -> Tensor:
        """Position embedding ``[1+P, W]`` for a grid: bicubic, sampled at the true patch centres.

        The native grid is stretched over the picture, as the field does; at the native size it is returned as it
        is. With overlapping patches, plain resizing would place every embedding up to half a patch off.
        """
        native: Tensor = self.visual.positional_embedding
        rows, columns = self.visual.grid_size
        if (grid.h, grid.w, grid.stride) == (rows, columns, grid.patch):
            return native
        key = (grid, native.device, native.dtype)
        if key not in self._positions:
            if len(self._positions) >= POSITIONS_KEPT:
                self._positions.pop(next(iter(self._positions)))
            table = rearrange(native[1:].detach(), "(h w) c -> 1 c h w", h=rows, w=columns).float()
            ys, xs = (_relative_centres(n, grid, table.device) for n in (grid.h, grid.w))
            at = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)[None]  # [1, h, w, (x, y)]
            sampled = F.grid_sample(table, at, mode="bicubic", padding_mode="border", align_corners=False)
            sampled = rearrange(sampled, "1 c h w -> (h w) c").to(native.dtype)
            self._positions[key] = torch.cat([native[:1].detach(), sampled])
        return self._positions[key]


class FeatureTower(nn.Module):
    """Patch tokens of timm towers and ResNets: the unchanged last features, at the tower's own stride.

    Attributes:
        patch: the tower's total stride in pixels.
        width: token width W, read from the tower's output.
    """

    visual: Any
    variants: tuple[str, ...] = ("clip",)
    projection: Tensor | None = None

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        _accept_any_size(visual)
        side = visual.image_size
        side = int(side[0] if isinstance(side, (tuple, list)) else side)
        with torch.inference_mode():
            features = self._features(torch.zeros(1, 3, side, side))
        self.width = features.shape[1]
        self.patch = side // features.shape[2]

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None
    ) -> tuple[list[Tensor], PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` -> tokens ``[B, P, W]``, the same for every variant; their grid."""
        if stride not in (None, self.patch):
            raise UserError(f"--stride {stride}: this image tower has a fixed stride of {self.patch}")
        grid = PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, self.patch)
        images = pad_to(images, grid.extent)
        try:
            features = self._features(images)  # [B, W, h, w]
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            size = "x".join(map(str, images.shape[-2:]))
            raise UserError(f"this image tower does not take {size} pixels ({error}); use its own size") from error
        tokens = rearrange(features, "b width h w -> b (h w) width")
        return [tokens] * len(variants), grid

    def _features(self, images: Tensor) -> Tensor:
        out = self.visual.forward_intermediates(
            images, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NCHW"
        )
        return out["image_intermediates"][-1]


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad ``[B, 3, H, W]`` at the right and bottom to ``size`` by repeating the border."""
    down, right = size[0] - images.shape[-2], size[1] - images.shape[-1]
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def _relative_centres(patches: int, grid: PatchGrid, device: torch.device) -> Tensor:
    """Patch centres in ``grid_sample``'s coordinates: -1 and 1 are the picture's edges."""
    extent = (patches - 1) * grid.stride + grid.patch
    centres = torch.arange(patches, dtype=torch.float64) * grid.stride + grid.patch / 2
    return (2 * centres / extent - 1).float().to(device)


def _accept_any_size(visual: Any) -> None:
    """Let a timm ViT interpolate its position embedding at run time."""
    trunk: Any = getattr(visual, "trunk", None)
    embed: Any = getattr(trunk, "patch_embed", None)
    if hasattr(trunk, "dynamic_img_size") and hasattr(embed, "strict_img_size"):
        trunk.dynamic_img_size = True
        embed.strict_img_size = False
        embed.flatten = False
        embed.output_fmt = type(embed.output_fmt)("NHWC")
