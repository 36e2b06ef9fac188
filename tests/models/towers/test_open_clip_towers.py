"""An open_clip ViT that is walked through block by block, against its own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

from pacl.models.towers.open_clip_towers import ViTTower


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


def test_under_bf16_the_tokens_stay_float32_and_close() -> None:
    tower, images = tiny()
    (exact,), _ = tower(images, ["clip"])
    with torch.autocast("cpu", torch.bfloat16):
        (rounded,), _ = tower(images, ["clip"])
    assert rounded.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(rounded, exact, dim=-1)
    assert not torch.equal(rounded, exact)
    assert cosine.min() > 0.99
