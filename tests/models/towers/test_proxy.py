"""Proxy attention against its formula, and the tower that combines CLIP with a proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers import proxy
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.proxy import ProxyTower, proxy_attention, resample
from tests.tiny import save_tiny_clip, trained_head


def by_formula(features: Tensor, values: Tensor, beta: float, gamma: float) -> Tensor:
    """One image, one patch at a time: features [P, F], values [P, W] -> [P, W]."""
    patches = len(features)
    cosines = torch.stack([F.cosine_similarity(features, own[None]) for own in features])
    average = cosines.sum() / patches**2
    mixed = torch.zeros_like(values)
    for i in range(patches):
        scores = gamma * (cosines[i] - beta * average)
        weights = torch.where(scores < 0, torch.zeros_like(scores), scores.exp())
        mixed[i] = (weights / weights.sum()) @ values
    return mixed


def smooth_features(images: int, h: int, w: int, width: int) -> Tensor:
    """Features of which neighbours are alike, with a common part: [B, P, F]."""
    random = torch.Generator().manual_seed(h * w)
    coarse = torch.randn(images, width, 3, 3, generator=random, dtype=torch.float64)
    common = 0.3 * torch.randn(images, width, 1, 1, generator=random, dtype=torch.float64)
    return rearrange(F.interpolate(coarse, (h, w), mode="bilinear") + common, "b c h w -> b (h w) c")


@pytest.mark.parametrize(("beta", "gamma"), [(1.2, 3.0), (0.5, 10.0)])
@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 7), (1, 5)])
def test_attention_equals_its_formula(h: int, w: int, beta: float, gamma: float) -> None:
    features = smooth_features(2, h, w, 6)
    values = torch.randn(2, h * w, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([by_formula(f, v, beta, gamma) for f, v in zip(features, values, strict=True)])
    torch.testing.assert_close(proxy_attention(features, values, beta, gamma), expected)
    assert not torch.allclose(expected, values, atol=1e-2)


def test_defaults_are_the_published_ones() -> None:
    features, values = smooth_features(1, 4, 5, 6), torch.randn(1, 20, 8, dtype=torch.float64)
    torch.testing.assert_close(proxy_attention(features, values)[0], by_formula(features[0], values[0], 1.2, 3.0))


def test_rows_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, values = smooth_features(2, 5, 7, 6), torch.randn(2, 35, 8, dtype=torch.float64)
    at_once = proxy_attention(features, values)
    monkeypatch.setattr(proxy, "SCORES", 2 * 35 * 4)  # four rows at a time
    torch.testing.assert_close(proxy_attention(features, values), at_once)


def test_uniform_images_keep_their_values() -> None:
    """All cosines are 1, below 1.2 times their mean: each patch is left with itself."""
    values = torch.randn(1, 6, 8)
    torch.testing.assert_close(proxy_attention(torch.ones(1, 6, 4), values), values)


def test_attention_stays_in_float32_under_autocast() -> None:
    features, values = smooth_features(1, 4, 5, 6).float(), torch.randn(1, 20, 8)
    plain = proxy_attention(features, values)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(proxy_attention(features, values), plain)
        assert proxy_attention(features, values.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("size", "patch"), [((48, 96), 8), ((96, 48), 12), ((48, 48), 24)])
def test_grids_that_tile_the_same_image_are_resampled_bilinearly(size: tuple[int, int], patch: int) -> None:
    source, target = (PatchGrid.cover(*size, side, side) for side in (16, patch))
    tokens = torch.randn(2, source.patches, 5, dtype=torch.float64)
    maps = rearrange(tokens, "b (h w) c -> b c h w", h=source.h)
    expected = F.interpolate(maps, (target.h, target.w), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(tokens, source, target), rearrange(expected, "b c h w -> b (h w) c"))


@pytest.mark.parametrize(("patch", "stride"), [(8, 8), (14, 14), (14, 5)])
def test_coordinates_are_resampled_to_themselves(patch: int, stride: int) -> None:
    """A token that says where its patch is says so on any other grid too, at ragged sizes as well."""
    source = PatchGrid.cover(90, 70, 16, 16)
    target = PatchGrid.cover(90, 70, patch, stride)

    def centres(grid: PatchGrid) -> Tensor:
        y, x = (torch.arange(n, dtype=torch.float64) * grid.stride + (grid.patch - 1) / 2 for n in (grid.h, grid.w))
        return torch.cartesian_prod(y, x)[None]

    inside = centres(source)[0]
    expected = centres(target).clamp(inside[0], inside[-1])  # values are held beyond the outermost centres
    torch.testing.assert_close(resample(centres(source), source, target), expected)


# --- the tower ---


def proxied(folder: Path, **options: Any) -> Backbone:
    """A tiny CLIP with another of other patches as its proxy."""
    proxy_name = save_tiny_clip(folder / "proxy", seed=1, image_size=28, patch_size=7, layers=2)
    return load_backbone(f"{save_tiny_clip(folder / 'clip')},proxy={proxy_name}", **options)


@pytest.mark.parametrize("positions", ["centres", "published"])
def test_tower_equals_its_formula_at_a_size_that_both_towers_tile(tmp_path: Path, positions: str) -> None:
    backbone = proxied(tmp_path)
    tower = backbone.image
    assert isinstance(tower, ProxyTower)
    images = torch.rand(2, 3, 56, 112)  # 7 x 14 patches of CLIP, 8 x 16 of the proxy
    (tokens,), grid = backbone.patch_tokens_of(backbone.normalize(images), ["proxyclip"], positions=positions)
    assert grid == PatchGrid(8, 16, patch=7, stride=7)

    clip, other = tower.clip.visual, load_backbone(backbone.name.partition(",proxy=")[2])
    features, _ = other.patch_tokens(other.normalize(images), "clip")
    block, attention = clip.transformer.resblocks[-1], clip.transformer.resblocks[-1].attn
    x, _, _ = tower.clip.before_last(backbone.normalize(images), positions=positions)
    values = block.ln_1(x)[:, 1:] @ attention.in_proj_weight[64:].T + attention.in_proj_bias[64:]  # width 32: q, k, v
    values = F.interpolate(rearrange(values, "b (h w) c -> b c h w", h=7), (8, 16), mode="bilinear")
    values = rearrange(values, "b c h w -> b (h w) c")
    mixed = torch.stack([by_formula(f, v, 1.2, 3.0) for f, v in zip(features, values, strict=True)])
    expected = clip.ln_post(mixed @ attention.out_proj.weight.T + attention.out_proj.bias)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(56, 56), (61, 83), (5, 40), (224, 33)])
def test_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    backbone = proxied(tmp_path)
    image = backbone.normalize(torch.rand(1, 3, *size))
    tokens, grid = backbone.patch_tokens(image, "proxyclip")
    assert grid == PatchGrid.cover(*size, 7, 7)
    assert tokens.shape == (1, grid.patches, 32)
    assert tokens.isfinite().all()


def test_images_of_a_batch_do_not_depend_on_each_other(tmp_path: Path) -> None:
    backbone = proxied(tmp_path)
    images = torch.randn(3, 3, 42, 35)
    tokens, _ = backbone.patch_tokens(images, "proxyclip")
    alone = torch.cat([backbone.patch_tokens(image[None], "proxyclip")[0] for image in images])
    torch.testing.assert_close(tokens, alone, rtol=0, atol=1e-5)


def test_stride_is_the_proxys(tmp_path: Path) -> None:
    backbone = proxied(tmp_path)
    tokens, grid = backbone.patch_tokens(torch.randn(1, 3, 40, 31), "proxyclip", stride=3)
    assert grid == PatchGrid.cover(40, 31, 7, 3)
    assert tokens.shape[1] == grid.patches


def test_the_proxy_sees_its_own_mean_and_std(tmp_path: Path) -> None:
    """The same image, whatever CLIP's normalisation: only the proxy's features decide who attends to whom."""
    clip, proxy_tower = (load_backbone(save_tiny_clip(tmp_path / str(seed), seed=seed)).image for seed in (0, 1))
    proxy_tower.preprocessing = proxy_tower.preprocessing | {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3)}
    seen: list[Tensor] = []
    proxy_tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 32)
    own = clip.preprocessing
    mean, std = (torch.tensor(own[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        ProxyTower(clip, proxy_tower)((images - mean) / std, ["proxyclip"])
    back = seen[0] * torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1) + torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    torch.testing.assert_close(back, images, rtol=0, atol=1e-5)


def test_what_a_proxied_backbone_is(tmp_path: Path) -> None:
    backbone = proxied(tmp_path)
    plain = load_backbone(f"local-dir:{tmp_path / 'clip'}")
    assert backbone.name == f"local-dir:{tmp_path / 'clip'},proxy=local-dir:{tmp_path / 'proxy'}"
    assert (backbone.dense_variants, backbone.patch, backbone.size) == (("proxyclip",), 7, plain.size)
    assert (backbone.shared, backbone.dim, backbone.logit_scale) == (True, plain.dim, plain.logit_scale)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(backbone.encode_image(images), plain.encode_image(images))
    assert torch.equal(backbone.encode_text(["a dog"]), plain.encode_text(["a dog"]))
    pooled, tokens = backbone.encode_image_and_tokens(images, "proxyclip")
    assert torch.equal(pooled, plain.encode_image(images))
    assert torch.equal(tokens, backbone.patch_tokens(images, "proxyclip")[0])


def test_the_checksum_is_over_both_image_towers(tmp_path: Path) -> None:
    backbone, plain = proxied(tmp_path), load_backbone(f"local-dir:{tmp_path / 'clip'}")
    save_tiny_clip(tmp_path / "proxy", seed=2, image_size=28, patch_size=7, layers=2)
    assert len({backbone.checksum(), plain.checksum(), load_backbone(backbone.name).checksum()}) == 3


def test_earlier_layers_come_along_on_the_proxys_grid(tmp_path: Path) -> None:
    backbone, with_layers = proxied(tmp_path), proxied(tmp_path, layers=[0])
    image = torch.randn(1, 3, 56, 56)
    tokens, _ = with_layers.patch_tokens(image, "proxyclip")
    assert with_layers.width == 64
    assert tokens.shape == (1, 64, 64)
    torch.testing.assert_close(tokens[..., 32:], backbone.patch_tokens(image, "proxyclip")[0])


def test_a_head_on_a_proxied_backbone_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = trained_head(proxied(tmp_path), dense="proxyclip")
    model.save_pretrained(tmp_path / "head")
    loaded = PACL.from_pretrained(tmp_path / "head")
    image = torch.randn(1, 3, 40, 40)
    assert torch.equal(loaded.encode_patches(image)[0], model.encode_patches(image)[0])
    save_tiny_clip(tmp_path / "proxy", seed=2, image_size=28, patch_size=7, layers=2)
    with pytest.raises(UserError, match="checksum"):
        PACL.from_pretrained(tmp_path / "head")


def test_without_training_it_is_the_variant_that_the_name_asks_for(tmp_path: Path) -> None:
    assert load_model(proxied(tmp_path).name).config.dense == "proxyclip"


@pytest.mark.parametrize("proxy_name", ["", "nowhere", "what:ever"])
def test_names_that_are_none_are_refused(proxy_name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_backbone(f"{save_tiny_clip(tmp_path)},proxy={proxy_name}")


def test_only_vits_take_a_proxy(tmp_path: Path) -> None:
    image = proxied(tmp_path).image
    with pytest.raises(UserError):
        ProxyTower(image, image)


def test_proxyclip_needs_a_proxy(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=",proxy=") as error:
        load_model(save_tiny_clip(tmp_path), dense="proxyclip")
    assert error.value.argument == "dense"


@pytest.mark.parametrize("proxy_name", ["timm:test_vit/random", "timm:test_resnet/random"])
def test_timm_towers_are_proxies(proxy_name: str, tmp_path: Path) -> None:
    name = f"{save_tiny_clip(tmp_path)},proxy={proxy_name}"
    backbone, again = load_backbone(name), load_backbone(name)
    assert (backbone.name, backbone.patch, backbone.width) == (name, 16, 32)
    image = backbone.normalize(torch.rand(1, 3, 90, 70))
    tokens, grid = backbone.patch_tokens(image, "proxyclip")
    assert grid == PatchGrid.cover(90, 70, 16, 16)
    assert torch.equal(tokens, again.patch_tokens(image, "proxyclip")[0])
    assert torch.allclose(tokens, tokens.mean(dim=1, keepdim=True)) is False


def test_the_text_tower_may_be_another(tmp_path: Path) -> None:
    clip, text = save_tiny_clip(tmp_path / "clip"), save_tiny_clip(tmp_path / "text", seed=1)
    backbone = load_backbone(f"{clip},proxy=timm:test_vit/random+{text}")
    assert (backbone.dense_variants, backbone.shared) == (("proxyclip",), False)
    assert torch.equal(backbone.encode_text(["a dog"]), load_backbone(text).encode_text(["a dog"]))
