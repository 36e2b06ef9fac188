"""ProxyCLIP: attention over CLIP's values with weights from another image tower (Lan et al., ECCV 2024).

CLIP recognises objects; a self-supervised ViT such as DINO separates them from each other. The last block of CLIP is
replaced by attention whose weights come from that second tower, the proxy. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.errors import UserError
from pacl.models.towers import dense
from pacl.models.towers.base import ImageTower
from pacl.models.towers.grid import PatchGrid, resample_patches
from pacl.models.towers.open_clip_towers import ViTTower

BETA = 1.2  # cosines below this multiple of their mean are masked (the published default)
GAMMA = 3.0  # inverse temperature of the softmax over the other cosines (the published default)
SCORES = 2**24  # attention weights computed at once; bounds the memory on large images


class ProxyTower(ImageTower):
    """An open_clip ViT whose last block has attention weights from another image tower's features.

    Of the last block only the values and the output projection remain (no residual, no MLP), followed by ``ln_post``:
    tokens are in CLIP's token space, on the patch grid of the proxy. This is the only dense variant; the other ones
    need a CLIP without a proxy.

    Args:
        clip: the CLIP's image tower, whose projection and pooled embedding are also this tower's.
        proxy: the tower that supplies the affinities. It sees the same image, normalised with its own mean and std.

    Raises:
        UserError: ``clip`` is not an open_clip ViT with standard attention.
    """

    variants = (dense.PROXY,)
    scale: Tensor
    shift: Tensor

    def __init__(self, clip: ImageTower, proxy: ImageTower) -> None:
        super().__init__()
        if not isinstance(clip, ViTTower) or not dense.supports_variants(clip.visual.transformer.resblocks[-1]):
            raise UserError("a proxy needs an open_clip ViT with standard attention, such as open_clip:ViT-B-16/openai")
        self.clip = clip
        self.proxy = proxy
        self.width = clip.width
        self.patch, self.fixed_stride = proxy.patch, proxy.fixed_stride
        self.size = clip.size
        self.preprocessing = clip.preprocessing
        self.layers = clip.layers
        self.quick_gelu, self.architecture = clip.quick_gelu, clip.architecture
        mean, std = _mean_and_std(clip)
        own_mean, own_std = _mean_and_std(proxy)
        self.register_buffer("scale", std / own_std, persistent=False)  # CLIP's normalisation -> the proxy's
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)

    @property
    def projection(self) -> Tensor | None:
        """CLIP's visual projection ``[W, D]``."""
        return self.clip.projection

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        """Images normalised for CLIP ``[B, 3, H, W]`` -> tokens ``[B, P, W]`` and the proxy's grid.

        ``stride`` applies to the proxy. CLIP keeps its own patches, and its values are interpolated to that grid.
        ``positions`` applies to CLIP.
        """
        (features,), grid = self.proxy(images * self.scale + self.shift, [self.proxy.variants[0]], stride)
        x, earlier, own = self.clip.before_last(images, positions=positions)
        visual = self.clip.visual
        # Attention and interpolation weights sum to 1, so the output projection may be applied before both.
        values = dense.dense_block(visual.transformer.resblocks[-1], x, own, "value")  # [B, P', W]
        tokens = visual.ln_post(proxy_attention(features, resample(values, own, grid)))
        tokens = torch.cat([*(resample(part, own, grid) for part in earlier), tokens], dim=-1)
        return [tokens] * len(variants), grid

    def pooled(self, images: Tensor) -> Tensor:
        """CLIP's own image embedding ``[B, D]``."""
        return self.clip.pooled(images)

    def weights(self) -> Mapping[str, Tensor]:
        """CLIP's weights under their own names, and the proxy's."""
        return {**self.clip.weights(), **{f"proxy.{name}": value for name, value in self.proxy.weights().items()}}


def proxy_attention(features: Tensor, values: Tensor, beta: float = BETA, gamma: float = GAMMA) -> Tensor:
    """Average values with weights from the proxy's features (ProxyCLIP, "adaptive normalization and masking").

    With ``s[i, j]`` the cosine of features i and j and ``m`` their mean over one image, patch i attends
    to those j with ``s[i, j] >= beta * m``, with weights ``softmax(gamma * s[i, :])`` over these j. (The published
    formula also subtracts ``gamma * beta * m`` inside of the softmax, which does not change it.)

    A patch always attends to itself. This matters only for very uniform images, where even the cosine of a patch with
    itself is below the threshold and the published formula is undefined.

    Args:
        features: features of the proxy's patches ``[B, P, F]``, any float dtype.
        values: values at the same patches ``[B, P, W]``.
        beta: threshold, as a multiple of the mean cosine.
        gamma: inverse temperature.

    Returns:
        ``[B, P, W]`` in the dtype of ``values``, computed in float32 or wider.
    """
    with torch.autocast(features.device.type, enabled=False):  # the threshold is sensitive to rounding
        unit = F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)
        threshold = beta * unit.mean(dim=1).square().sum(dim=-1)[:, None, None]  # the mean of P x P dot products
        wide = values.to(unit.dtype)
        mixed = torch.empty_like(wide)
        step = max(1, SCORES // (unit.shape[0] * unit.shape[1]))
        for start in range(0, unit.shape[1], step):
            rows = slice(start, start + step)
            cosines = unit[:, rows] @ unit.mT  # [B, rows, P]
            masked = cosines < threshold
            masked.diagonal(start, dim1=1, dim2=2).fill_(False)
            mixed[:, rows] = (gamma * cosines).masked_fill(masked, -torch.inf).softmax(dim=-1) @ wide
    return mixed.to(values.dtype)


def resample(tokens: Tensor, grid: PatchGrid, target: PatchGrid) -> Tensor:
    """Interpolate tokens ``[B, P, W]`` on one grid bilinearly at the patch centres of another, ``[B, P', W]``.

    Both grids start at the image's top left corner. Where both tile the same pixels this is
    ``F.interpolate(mode="bilinear", align_corners=False)``.
    """
    if grid == target:
        return tokens
    maps = rearrange(tokens, "b (h w) c -> b c h w", h=grid.h)
    return rearrange(resample_patches(maps, grid, target), "b c h w -> b (h w) c").to(tokens.dtype)


def _mean_and_std(tower: ImageTower) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the tower's preprocessing, ``[3, 1, 1]`` each."""
    mean, std = (torch.tensor(tower.preprocessing[key], dtype=torch.float32).view(3, 1, 1) for key in ("mean", "std"))
    return mean, std
