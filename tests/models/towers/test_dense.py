"""Each dense variant against its formula, written out token by token."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import CustomResidualAttentionBlock, QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from pacl.models.backbone import load_backbone
from pacl.models.towers.dense import VARIANTS, dense_block, neighbourhood, residual_block, supports_variants
from pacl.models.towers.grid import PatchGrid
from tests.tiny import save_tiny_clip

GRID = PatchGrid(3, 4, patch=8, stride=8)


def by_formula(block: Any, x: Tensor, variant: str) -> Tensor:
    """One image, one head at a time, plain loops: x [1+P, W] -> [P, W]."""
    y = block.ln_1(x)
    heads = block.attn.num_heads
    size = y.shape[-1] // heads
    q, k, v = (y @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
    mixed = torch.zeros_like(y)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        qh, kh, vh = q[:, part] / math.sqrt(math.sqrt(size)), k[:, part] / math.sqrt(math.sqrt(size)), v[:, part]
        if variant == "clip":
            weights = (qh @ kh.T).softmax(-1)
        elif variant in ("value", "maskclip"):
            weights = torch.eye(len(y), dtype=y.dtype)
        elif variant == "sclip":
            weights = (qh @ qh.T).softmax(-1) + (kh @ kh.T).softmax(-1)
        elif variant == "clearclip":
            weights = (qh @ qh.T).softmax(-1)
        else:
            bias = torch.zeros(len(y), len(y), dtype=y.dtype)
            for i in range(GRID.patches):
                for j in range(GRID.patches):
                    (yi, xi), (yj, xj) = divmod(i, GRID.w), divmod(j, GRID.w)
                    bias[1 + i, 1 + j] = math.exp(-((yi - yj) ** 2 + (xi - xj) ** 2) / (2 * 5.0**2))
            weights = (kh @ kh.T + bias).softmax(-1)
        mixed[:, part] = weights @ vh
    attended = mixed @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    if variant in ("value", "clearclip", "naclip"):
        return attended[1:]
    x = x + attended
    return (x + block.mlp(block.ln_2(x)))[1:]


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_equals_its_formula(variant: str, quick_gelu: bool, tmp_path: Path) -> None:
    block = (
        load_backbone(save_tiny_clip(tmp_path, quick_gelu=quick_gelu)).image.visual.transformer.resblocks[-1].double()
    )
    x = torch.randn(2, 1 + GRID.patches, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([by_formula(block, one, variant) for one in x])
    # The neighbourhood is kept in float32: only naclip differs by its rounding.
    torch.testing.assert_close(dense_block(block, x, GRID, variant), expected, rtol=0, atol=1e-6)
    others = [dense_block(block, x, GRID, other) for other in VARIANTS if other != variant]
    assert all(not torch.allclose(expected, other, atol=1e-3) for other in others)


@pytest.mark.parametrize("activation", [nn.GELU, QuickGELU])
@pytest.mark.parametrize("layer_scale", [None, 0.3])
def test_a_standard_block_equals_the_librarys(activation: type[nn.Module], layer_scale: float | None) -> None:
    rng = torch.Generator().manual_seed(0)
    block = ResidualAttentionBlock(32, 4, ls_init_value=layer_scale, act_layer=activation).eval().requires_grad_(False)
    for parameter in block.parameters():  # biases start at zero, which would hide that one is left out
        parameter.copy_(torch.randn(parameter.shape, generator=rng) * (1 if parameter.ndim == 1 else 0.2))
    x = torch.randn(3, 7, 32, generator=rng)
    block.attn.forward = lambda *_, **__: pytest.fail("the library's attention ran")
    found = residual_block(block, x)
    del block.attn.forward
    torch.testing.assert_close(found, block(x), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = residual_block(block, x)
    assert rounded.dtype == torch.float32  # the sums
    assert 0 < (rounded - found).abs().max() < 0.1 * found.abs().max()


class OwnAttention(nn.Module):
    """As newer open_clip versions have it in place of `nn.MultiheadAttention`, options left out."""

    def __init__(self, like: nn.MultiheadAttention, **more: Any) -> None:
        super().__init__()
        self.num_heads, self.out_proj = like.num_heads, like.out_proj
        self.in_proj_weight, self.in_proj_bias = like.in_proj_weight, like.in_proj_bias
        for name, value in more.items():
            setattr(self, name, value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_kinds_of_attention_give_the_same(variant: str) -> None:
    block = ResidualAttentionBlock(32, 4).eval().requires_grad_(False)
    x = torch.randn(2, 1 + GRID.patches, 32, generator=torch.Generator().manual_seed(0))
    expected = dense_block(block, x, GRID, variant)
    block.attn = OwnAttention(block.attn)
    assert supports_variants(block)
    assert torch.equal(dense_block(block, x, GRID, variant), expected)


@pytest.mark.parametrize(
    "option",
    [
        {"ln_q": nn.LayerNorm(8), "ln_k": nn.LayerNorm(8)},  # qk_norm
        {"logit_scale": nn.Parameter(torch.ones(4, 1, 1)), "scaled_cosine": True},
        {"scaled_cosine": True},
        {"head_scale": nn.Parameter(torch.ones(4, 1, 1)), "scale_heads": True},
        {"ln_inner": nn.LayerNorm(32)},  # inner_norm
        {"bias_k": nn.Parameter(torch.ones(1, 1, 32))},
        {"add_zero_attn": True},
    ],
)
def test_attention_with_options_is_refused(option: dict[str, Any]) -> None:
    block = ResidualAttentionBlock(32, 4)
    block.attn = OwnAttention(block.attn, **option)
    assert not supports_variants(block)


def test_the_librarys_own_attention() -> None:
    plain = CustomResidualAttentionBlock(32, 4).eval().requires_grad_(False)
    assert supports_variants(plain)
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(residual_block(plain, x), plain(x), rtol=1e-5, atol=1e-5)
    for option in ("qk_norm", "scale_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn"):
        assert not supports_variants(CustomResidualAttentionBlock(32, 4, **{option: True})), option


def test_blocks_that_are_built_otherwise_run_by_themselves() -> None:
    block = CustomResidualAttentionBlock(32, 4, qk_norm=True).eval()
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    assert not supports_variants(block)
    assert torch.equal(residual_block(block, x), block(x))


def test_a_token_of_the_value_path_depends_on_itself_alone(tmp_path: Path) -> None:
    block = load_backbone(save_tiny_clip(tmp_path)).image.visual.transformer.resblocks[-1]
    x = torch.randn(1, 1 + GRID.patches, 32)
    changed = x.clone()
    changed[:, 5] += 1
    for variant in ("value", "maskclip"):
        same = (dense_block(block, x, GRID, variant) == dense_block(block, changed, GRID, variant)).all(dim=-1)[0]
        assert same.tolist() == [patch != 4 for patch in range(GRID.patches)]


def test_neighbourhood_is_in_patch_widths_whatever_the_stride() -> None:
    coarse = neighbourhood(PatchGrid(1, 2, 8, 8), torch.device("cpu"))
    fine = neighbourhood(PatchGrid(1, 5, 8, 2), torch.device("cpu"))
    assert coarse[:, 0].tolist() == [0, 0]
    torch.testing.assert_close(coarse[0, 2], fine[0, 5])
    torch.testing.assert_close(coarse[0, 2], torch.tensor(math.exp(-1 / 50)))


def test_unknown_blocks_and_variants_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = load_backbone(save_tiny_clip(tmp_path)).image.visual.transformer.resblocks[-1]
    assert supports_variants(block)
    assert not supports_variants(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="best"):
        dense_block(block, torch.zeros(1, 13, 32), GRID, "best")
    monkeypatch.setattr("pacl.models.towers.dense.VARIANTS", (*VARIANTS, "named alone"))
    with pytest.raises(ValueError, match="named alone"):  # not the last variant's attention
        dense_block(block, torch.zeros(1, 13, 32), GRID, "named alone")


def test_clip_projection_of_the_plain_block_is_the_models_own(tmp_path: Path) -> None:
    """The class token of the unchanged block, projected, is CLIP's image embedding; patches take the same path."""
    clip = load_backbone(save_tiny_clip(tmp_path))
    image = torch.randn(1, 3, 32, 32)
    own = clip.image.visual.forward_intermediates(
        image, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
    )["image_intermediates"][0]
    torch.testing.assert_close(clip.patch_tokens(image, "clip")[0], own)
    assert clip.projection is not None
    assert F.normalize(own @ clip.projection, dim=-1).shape == (1, 16, 16)
