"""An open_clip ViT that is walked through block by block, against its own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.transformer import VisionTransformer
from torch import Tensor

from pacl.models.loading import load_model
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.open_clip_towers import ViTTower
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise


def tiny(**options: Any) -> tuple[ViTTower, Tensor]:
    """A tower of three blocks with random weights, biases included, and two images of its size."""
    visual = VisionTransformer(**{"image_size": 32, "patch_size": 8, "output_dim": 16, **options}, width=32, layers=3,
                               heads=2, mlp_ratio=4)  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * (1 if parameter.ndim == 1 else 0.2))
    visual.preprocess_cfg = {"size": (32, 32)}
    side = visual.image_size[0]
    return ViTTower(visual.eval().requires_grad_(False)), torch.randn(2, 3, side, side, generator=rng)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ls_init_value": 0.5},
        {"pool_type": "avg"},
        {"pool_type": "avg", "final_ln_after_pool": True},
        {"no_ln_pre": True},
        {"image_size": 34},  # of which the patches leave out two rows and columns
        {"qk_norm": True},  # blocks that only the library runs
    ],
)
def test_the_pooled_embedding_is_the_librarys(options: dict[str, Any]) -> None:
    tower, images = tiny(**options)
    expected = tower.visual(images)
    torch.testing.assert_close(tower.pooled(images), expected, rtol=1e-5, atol=1e-5)
    pooled, tokens = tower.pooled_and_tokens(images, "clip")
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5)
    own = tower.visual.forward_intermediates(
        images, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
    )["image_intermediates"][0]
    torch.testing.assert_close(tokens, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("patches", [(6, 9), (3, 4), (4, 4)])
def test_positions_as_published(patches: tuple[int, int]) -> None:
    """torch's bicubic interpolation by a factor of (n + 0.1) / native n; the native grid is left alone."""
    tower, _ = tiny()
    grid = PatchGrid(*patches, patch=8, stride=8)
    native = tower.visual.positional_embedding
    table = rearrange(native[1:], "(h w) c -> 1 c h w", h=4)
    factors = [(n + 0.1) / 4 for n in patches]
    direct = rearrange(F.interpolate(table, scale_factor=factors, mode="bicubic"), "1 c h w -> (h w) c")
    centres = tower.positions(grid)
    found = tower.positions(grid, "published")
    expected = native if patches == (4, 4) else torch.cat([native[:1], direct])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(tower.positions(grid), centres)  # afterwards as before
    assert torch.equal(found, centres) == (patches == (4, 4))


def test_a_segmenters_setting_reaches_the_positions(tiny_clip: str) -> None:
    model, image = load_model(tiny_clip), noise(70, 90)
    either = []
    for how in ("centres", "published", "centres"):
        segmenter = Segmenter(model, SegmenterSettings(size=64, positions=how))  # type: ignore[arg-type]
        segmenter.set_image(image)
        assert segmenter.image is not None
        either.append(segmenter.image.patches.values)
    assert torch.equal(either[0], either[2])
    assert 0 < (either[0] - either[1]).abs().max() < 0.3


def test_under_bf16_the_tokens_stay_float32_and_close() -> None:
    tower, images = tiny()
    (exact,), _ = tower(images, ["clip"])
    with torch.autocast("cpu", torch.bfloat16):
        (rounded,), _ = tower(images, ["clip"])
    assert rounded.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(rounded, exact, dim=-1)
    assert not torch.equal(rounded, exact)
    assert cosine.min() > 0.99
