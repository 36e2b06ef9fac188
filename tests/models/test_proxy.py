"""Proxy attention against its formula, and the tower that combines CLIP with a proxy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.models import proxy
from pacl.models.grid import PatchGrid
from pacl.models.proxy import proxy_attention, resample


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
