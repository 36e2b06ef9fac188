"""Settings are checked at once and never replaced; what a segmenter shows of itself."""

from __future__ import annotations

import math

import pytest

from pacl.errors import ArgumentError
from pacl.images import MAX_PIXELS
from pacl.models.loading import load_model
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, noise


def test_a_fixed_stride_is_known_before_any_image() -> None:
    model = load_model("photos")
    for stride in (8, 32):
        with pytest.raises(ArgumentError) as error:
            Segmenter(model, SegmenterSettings(stride=stride))
        assert error.value.argument == "stride"
        assert "leave it out" in error.value.reason
    assert Segmenter(model, SegmenterSettings(stride=model.clip.patch)).settings.stride == model.clip.patch


def test_the_setting_that_was_given_is_at_fault_for_images_that_are_too_large() -> None:
    model = ColourModel()
    own = max(model.config.scales)
    for given, argument in (
        ({"size": 10**6}, "size"),
        ({"size": 10**6, "scales": (1, 2)}, "size"),
        ({"scales": (1, 10**4)}, "scales"),
        ({"size": 64, "scales": (1, 10**4)}, "scales"),
    ):
        with pytest.raises(ArgumentError) as error:
            Segmenter(model, SegmenterSettings(**given))
        assert error.value.argument == argument
    Segmenter(model, SegmenterSettings(size=int(math.isqrt(MAX_PIXELS) / own)))  # the largest


def test_reprs_hold_no_tensors() -> None:
    segmenter = Segmenter(ColourModel())
    query = segmenter.prepare(["red", "blue"])
    assert len(repr(segmenter)) < 100
    segmenter.set_image(noise(64, 64))
    (encoded,) = segmenter.encode([noise(64, 64)], ["image"])
    for each in (segmenter, query, encoded):
        assert len(repr(each)) < 200
        assert "tensor" not in repr(each)
    assert "red" in repr(query)


def test_settings_are_not_replaced() -> None:
    segmenter = Segmenter("bundled", SegmenterSettings(prior=-0.3))
    with pytest.raises(AttributeError, match="new one"):
        segmenter.settings = SegmenterSettings(refine=10)
    assert segmenter.settings.prior == -0.3
