"""Features of whole images are those that a linear probe of CLIP uses; towers trained apart have their mean token."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pacl.classification.features import embed, features
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from tests.tiny import trained_head


@pytest.fixture
def model(tiny_clip: str) -> PACL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained_head(load_backbone(tiny_clip)).eval()


@pytest.fixture
def squares() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_embeddings_equal_those_of_the_model(squares: torch.Tensor, model: PACL) -> None:
    pooled, patches = embed(model, squares)
    assert torch.allclose(pooled, model.clip.encode_image(squares), atol=1e-5)
    assert torch.allclose(patches, model.encode_patches(squares)[0], atol=1e-5)
    assert pooled.norm(dim=-1).allclose(torch.ones(6))
    low, _ = embed(model, squares, "bf16")
    assert low.dtype == torch.float32
    assert 0 < (low - pooled).abs().max() < 0.1


def test_the_pooled_feature_is_clips_before_its_projection(squares: torch.Tensor, model: PACL) -> None:
    found = features(model, squares)
    assert found["pooled"].shape == (6, model.clip.width)
    projected = F.normalize(found["pooled"] @ model.clip.projection, dim=-1)
    assert torch.allclose(projected, model.clip.encode_image(squares), atol=1e-5)
    patches, _ = model.encode_patches(squares)
    assert torch.allclose(found["patches"], F.normalize(patches.mean(1), dim=-1), atol=1e-5)
    assert not model.clip.image.visual.ln_post._forward_hooks  # the hook was removed


def test_towers_that_were_trained_apart_have_the_feature_of_their_own_classifier() -> None:
    model = load_model("photos", device="cpu")
    images = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    found = features(model, images)
    classifier = model.clip.classifier
    assert classifier is not None
    logits = found["pooled"] @ classifier.weight.T + classifier.bias
    assert torch.allclose(logits, model.clip.image.model(images), atol=1e-3)
    assert found["patches"].shape == (2, model.config.vector_width)
