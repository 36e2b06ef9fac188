"""Images of which one label took nearly all pixels, and images that the bundled model does not know."""

from __future__ import annotations

import numpy as np
import pytest

from pacl.images import open_image
from pacl.models.loading import load_model
from pacl.segmentation.image_doubts import FEW, other_prior, swallowed, unlike_drawn_scenes
from tests.paths import ROOT


def named(*shares: float) -> dict[str, float]:
    return {f"l{i}": share for i, share in enumerate(shares)}


def test_a_label_that_took_nearly_all_is_named() -> None:
    said = swallowed(named(0.01, 0.99), None)
    assert said is not None
    assert "l1" in said


@pytest.mark.parametrize(
    ("shares", "prior"), [((0.5, 0.5), None), ((1.0,), None), ((0.0, 1.0), 1.0), ((0.99, *[0.0] * FEW), 0.0)]
)
def test_even_shares_single_labels_long_lists_and_positive_priors_need_no_note(
    shares: tuple[float, ...], prior: float
) -> None:
    assert swallowed(named(*shares), prior) is None


@pytest.mark.parametrize("setting", ["--prior", "a prior of"])
def test_a_stronger_prior_is_advised_up_to_the_strongest(setting: str) -> None:
    for prior, tried in ((None, "-0.3"), (0.0, "-0.3"), (-0.3, "-0.6"), (-0.6, None), (-1.0, None)):
        advice = other_prior(prior, setting)
        assert f"{setting} {tried}" in advice if tried else setting not in advice


def test_a_drawn_scene_is_told_from_noise() -> None:
    model = load_model("bundled")
    scene = open_image(ROOT / "pacl" / "bundled" / "demo.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)  # (enlarged: soft blobs)
    assert unlike_drawn_scenes(model, scene, "scene.jpg") is None
    assert "noise.jpg" in (unlike_drawn_scenes(model, noise, "noise.jpg") or "")
    for dense in model.clip.dense_variants:
        model.config.dense = dense
        assert unlike_drawn_scenes(model, scene, "scene.jpg") is None
