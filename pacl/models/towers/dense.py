"""Dense variants of a ViT's last block, which keep patch tokens local.

CLIP's loss depends on the class token alone, so the last block may fill patch tokens with global information. All
variants change only this block. With ``x`` its input, ``q, k, v`` from ``ln_1(x)`` and
``scale = head_dim ** -0.5``:

========== ===================================================== =========================
variant    attention weights                                     output
========== ===================================================== =========================
clip       softmax(q k' scale)                                   x + attn, then + MLP
value      identity                                              attn
maskclip   identity                                              x + attn, then + MLP
sclip      softmax(q q' scale) + softmax(k k' scale)             x + attn, then + MLP
clearclip  softmax(q q' scale)                                   attn
naclip     softmax(k k' scale + gaussian of patch distance)      attn
========== ===================================================== =========================

Sources: MaskCLIP (Zhou et al., ECCV 2022), SCLIP (Wang et al., ECCV 2024), ClearCLIP (Lan et al., ECCV 2024),
NACLIP (Hajimiri et al., WACV 2025); ``value`` is the value path alone. The variant ``proxyclip`` takes its
attention weights from a second image tower, see `pacl.models.towers.proxy`.

To add a variant, add its name to `Dense`, its attention to `_attend` and a row to the table above; if it has neither
residual nor MLP, add its name to `ATTENTION_ONLY`, too. The help of ``--dense`` in `pacl.cli.model`, which does not
import torch, lists the variants again.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pacl.models.towers.grid import PatchGrid, is_exporting
from pacl.models.towers.tensor_cache import TensorCache

Dense = Literal["clip", "value", "maskclip", "sclip", "clearclip", "naclip"]
VARIANTS: tuple[str, ...] = get_args(Dense)
PROXY = "proxyclip"
NAMES = (*VARIANTS, PROXY)  # all dense variants

ATTENTION_ONLY = frozenset({"value", "clearclip", "naclip"})  # no residual, no MLP
NEIGHBOURHOOD_STD = 5.0  # NACLIP's, in patches
NEIGHBOURHOODS = TensorCache(limit=64 * 2**20)

_WEIGHTS = {"in_proj_weight", "out_proj.weight"}
PLAIN = ({*_WEIGHTS, "in_proj_bias", "out_proj.bias"}, {*_WEIGHTS, "out_proj.bias"}, _WEIGHTS)
"""Names of the parameters of attention without options."""


def supports_variants(block: Any) -> bool:
    """Whether the block is a standard pre-norm block whose attention is plain: projections and a softmax.

    This holds for ``nn.MultiheadAttention`` and for open_clip's own ``Attention``, which newer versions use instead.
    Both have further options (normalised queries and keys, scaled cosines, scaled heads, an inner norm, extra keys);
    all but ``add_zero_attn`` come with parameters of their own, so any other parameter refuses the block.
    """
    attention = getattr(block, "attn", None)
    return (
        isinstance(attention, nn.Module)
        and {name for name, _ in attention.named_parameters()} in PLAIN
        and not any(getattr(attention, option, False) for option in ("add_zero_attn", "scaled_cosine", "scale_heads"))
        and not list(getattr(block, "ln_attn", nn.Identity()).parameters())
        and all(hasattr(block, part) for part in ("ln_1", "ls_1", "ln_2", "mlp", "ls_2"))
    )


def residual_block(block: Any, x: Tensor) -> Tensor:
    """Run an unchanged residual block, tokens ``[B, L, W]`` -> ``[B, L, W]``.

    A standard block is computed here, any other one by its own ``forward``. ``nn.MultiheadAttention`` transposes the
    batch before its projection; on a CPU in bfloat16 that becomes one small matrix product per token, several times
    slower than float32. Here the projection is one product over all tokens.

    Args:
        block: a block of an open_clip transformer, in eval mode.
        x: the block's input. Sums keep its dtype; under autocast only the products are bfloat16.
    """
    if not supports_variants(block):
        return block(x)
    return _residual(block, x, _merge(_sdpa(*_project(block.attn, block.ln_1(x)))))


def dense_block(block: Any, x: Tensor, grid: PatchGrid, variant: str) -> Tensor:
    """Run the last residual block in one of the dense variants.

    Args:
        block: an open_clip ``ResidualAttentionBlock`` (see `supports_variants`).
        x: the block's input ``[B, 1+P, W]``, class token first.
        grid: the patch grid, for naclip.
        variant: one of `VARIANTS`.

    Returns:
        Patch tokens ``[B, P, W]`` (before ``ln_post``); the class token is dropped.
    """
    if variant == "clip":
        return residual_block(block, x)[:, 1:]
    if variant not in VARIANTS:
        raise ValueError(f"unknown dense variant {variant!r}: choose from {', '.join(VARIANTS)}")
    attention = block.attn
    attended = _attend(attention, block.ln_1(x), grid, variant)  # [B, P, W]
    if variant in ATTENTION_ONLY:
        return block.ls_1(attention.out_proj(attended))
    return _residual(block, x[:, 1:], attended)


def _residual(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Residual sums of attention and MLP; all ``[B, L, W]``, ``attended`` before the output projection."""
    x = x + block.ls_1(block.attn.out_proj(attended))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _project(attention: Any, x: Tensor) -> Tensor:
    """Queries, keys and values of tokens: ``[B, L, W]`` -> ``[3, B, heads, L, W / heads]``."""
    return rearrange(
        F.linear(x, attention.in_proj_weight, attention.in_proj_bias),
        "b l (three heads d) -> three b heads l d",
        three=3,
        heads=attention.num_heads,
    )


def _merge(mixed: Tensor) -> Tensor:
    """Concatenate heads: ``[B, heads, L, d]`` -> ``[B, L, W]``."""
    return rearrange(mixed, "b heads l d -> b l (heads d)")


def _attend(attention: Any, x: Tensor, grid: PatchGrid, variant: str) -> Tensor:
    """Attention output of the patches before the output projection: ``[B, 1+P, W]`` -> ``[B, P, W]``."""
    if variant in ("value", "maskclip"):  # identity weights: queries and keys are not needed
        bias = attention.in_proj_bias
        width = attention.out_proj.in_features
        return F.linear(x[:, 1:], attention.in_proj_weight[-width:], None if bias is None else bias[-width:])
    q, k, v = _project(attention, x)
    # Only patches are queries; the class token remains a key.
    if variant == "sclip":
        mixed = _sdpa(q[:, :, 1:], q, v) + _sdpa(k[:, :, 1:], k, v)
    elif variant == "clearclip":
        mixed = _sdpa(q[:, :, 1:], q, v)
    elif variant == "naclip":
        bias = neighbourhood(grid, x.device) if is_exporting() else kept_neighbourhood(grid, x.device)
        mixed = _sdpa(k[:, :, 1:], k, v, bias.to(v.dtype))
    else:
        raise ValueError(f"dense variant {variant!r} has no attention")
    return _merge(mixed)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def kept_neighbourhood(grid: PatchGrid, device: torch.device) -> Tensor:
    """`neighbourhood`, computed once for the images of one size unless it takes hundreds of MB (at a small stride)."""
    return NEIGHBOURHOODS.get((grid, device), lambda: neighbourhood(grid, device))


def neighbourhood(grid: PatchGrid, device: torch.device, std: float = NEIGHBOURHOOD_STD) -> Tensor:
    """NACLIP's additive bias ``exp(-d^2 / (2 std^2))`` of the distance between patches, ``[P, 1+P]``.

    The class token's column is 0. Distances are in patch widths, so that a smaller stride keeps the same
    neighbourhood in the image.
    """

    def along(patches: int) -> Tensor:  # a 2-D Gaussian is the product of two 1-D ones: [n, n]
        centres = torch.arange(patches, dtype=torch.float32) * grid.stride / grid.patch
        return torch.exp(-(centres[:, None] - centres).square() / (2 * std**2)).to(device)

    down, across = along(grid.h), along(grid.w)
    weights = rearrange(down[:, None, :, None] * across[None, :, None, :], "y x j i -> (y x) (j i)")  # [P, P]
    return F.pad(weights, (1, 0))  # [P, 1+P]
