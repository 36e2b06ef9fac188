"""The segmenter on a CLIP."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pacl.errors import UserError
from pacl.models.backbone import Backbone
from pacl.models.model import PACL
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise
from tests.tiny import phi


@pytest.mark.parametrize("settings", [{}, {"size": 64, "window": 32, "accumulate": "pixel"}, {"stride": 4}], ids=str)
def test_the_real_model_in_batches_and_alone(clip: Backbone, settings: dict) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model, SegmenterSettings(**settings, templates="paper"))
    images = [noise(64, 64, 1), noise(40, 90, 2), noise(128, 128, 3), noise(1, 50, 4)]
    labels = ["a dog", "a cat;a kitten=cat", "the grass"]
    for image, together in zip(images, segmenter.predict_batch(images, labels), strict=True):
        segmenter.set_image(image)
        alone = segmenter.predict(labels)
        assert (alone.index == together.index).mean() > 0.999
        for label in alone.labels:
            np.testing.assert_allclose(alone.score_map(label), together.score_map(label), atol=1e-5)
            assert -1 <= alone.score_map(label).min() <= alone.score_map(label).max() <= 1


def test_a_single_prompt_on_the_real_model(clip: Backbone) -> None:
    segmenter = Segmenter(PACL.untrained(clip))
    segmenter.set_image(noise(50, 60))
    result = segmenter.predict(["a dog"])
    assert result.background == "contrast"
    assert 0 <= result.shares[0] < 1
    with pytest.raises(UserError, match="too long"):
        segmenter.predict(["dog " * 30])


def test_bf16_is_close_and_ends_in_float32(clip: Backbone) -> None:
    segmenters = [Segmenter(PACL.untrained(clip), SegmenterSettings(precision=p)) for p in ("fp32", "bf16")]
    for segmenter in segmenters:
        segmenter.set_image(noise(64, 64))
    exact, rounded = (segmenter.image.patches.values for segmenter in segmenters if segmenter.image)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("settings", [{}, {"refine": 3, "prior": 0.5}, {"scales": (1.0, 2.0)}], ids=str)
def test_an_autocast_around_it_changes_nothing(clip: Backbone, settings: dict, dtype: torch.dtype) -> None:
    segmenter, image, labels = (
        Segmenter(PACL.untrained(clip), SegmenterSettings(**settings)),
        noise(50, 60),
        ["dog", "cat"],
    )

    def segmented() -> list[np.ndarray]:
        segmenter.set_image(image)
        found = segmenter.predict(labels)
        (together,) = segmenter.predict_batch([image], labels)
        return [found.index, found.probabilities, found.score_map("dog"), together.probabilities]

    plain = segmented()
    with torch.autocast("cpu", dtype=dtype):
        for own, other in zip(plain, segmented(), strict=True):
            np.testing.assert_array_equal(own, other)
        assert torch.is_autocast_enabled("cpu")


def test_training_goes_on_after_segmenting(clip: Backbone) -> None:
    """Nothing that the segmenter leaves in the model's caches keeps gradients from flowing."""
    model = PACL.untrained(clip, text="linear")
    segmenter = Segmenter(model)
    segmenter.set_image(noise(32, 40))
    segmenter.predict_batch([noise(50, 40)], ["a dog", "a cat"])
    images = model.clip.normalize(torch.from_numpy(noise(32, 40)).permute(2, 0, 1)[None])
    phi(model, images, ["a dog", "a cat"]).sum().backward()
    assert model.text_embedder.weight.grad is not None
    assert all(parameter.grad is not None for parameter in model.embedder.parameters())


def test_values_that_are_not_finite_are_an_error(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    segmenter = Segmenter(model)
    with torch.no_grad():
        next(model.embedder.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="finite"):
        segmenter.set_image(noise(40, 56))
