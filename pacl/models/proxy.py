"""ProxyCLIP: CLIP's values, mixed by the self-similarity of another image tower (Lan et al., ECCV 2024).

CLIP knows what is in an image, a self-supervised ViT such as DINO knows which patches belong together. The last
block of CLIP is replaced by attention whose weights come from that second tower, the proxy; nothing is trained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.models.grid import PatchGrid, upsample

BETA = 1.2  # cosines below this multiple of their mean are masked (the published default)
GAMMA = 3.0  # inverse temperature of the remaining ones (the published default)
SCORES = 2**24  # attention weights computed at once; bounds the memory on large images


def proxy_attention(features: Tensor, values: Tensor, beta: float = BETA, gamma: float = GAMMA) -> Tensor:
    """Mix values by how similar the proxy's features are (ProxyCLIP, "adaptive normalization and masking").

    With ``s[i, j]`` the cosine of features i and j and ``m`` the mean of all of them over one image, patch i attends
    to those j with ``s[i, j] >= beta * m``, with weights ``softmax(gamma * s[i, :])`` over these j. (The published
    formula also subtracts ``gamma * beta * m`` inside of the softmax, which does not change it.)

    A patch always attends to itself. That only matters for images so uniform that a patch's cosine with itself is
    below the threshold, where the published formula is undefined.

    Args:
        features: of the proxy's patches ``[B, P, F]``, any float dtype.
        values: at the same patches ``[B, P, W]``.
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
    # As `upsample` sees it, the target's patches are output pixels that lie `stride` apart.
    shift = (target.stride - target.patch) / 2
    maps = upsample(maps, grid, (target.h, target.w), (target.stride, target.stride), offset=(shift, shift))
    return rearrange(maps, "b c h w -> b (h w) c").to(tokens.dtype)
