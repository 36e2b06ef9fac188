"""Settings are checked at once and never replaced; what a segmenter shows of itself."""

from __future__ import annotations

import pytest

from pacl.errors import ArgumentError
from pacl.models.loading import load_model
from pacl.segmentation.segmenter import Segmenter, SegmenterSettings
from tests.colours import ColourModel, noise


def test_a_fixed_stride_is_known_before_any_image() -> None:
    model = load_model("photos")
    for stride in (8, 32):
        with pytest.raises(ArgumentError) as error:
            Segmenter(model, SegmenterSettings(stride=stride))
        assert error.value.argument == "stride"
        assert "leave it out" in error.value.reason
    assert Segmenter(model, SegmenterSettings(stride=model.clip.patch)).settings.stride == model.clip.patch


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
