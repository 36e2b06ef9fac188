"""Pixels and patches stay aligned at every size, stride, window and scale."""

from __future__ import annotations

import numpy as np
import pytest

from tests.colours import COLOURS, noise, picture
from tests.segmentation.red_square import run

VIEWS = [
    {},
    {"stride": 4},
    {"stride": 3},
    {"size": 80},
    {"size": 77, "stride": 4},
    {"size": 96, "window": 48, "accumulate": "pixel"},
    {"size": 96, "window": 48, "accumulate": "patch"},
    {"size": 91, "window": 40, "window_step": 13, "accumulate": "pixel"},
    {"size": 91, "window": 40, "window_step": 13, "accumulate": "patch"},
    {"size": 90, "window": 48, "window_step": 40, "stride": 4, "accumulate": "pixel"},
    {"size": 90, "window": 48, "window_step": 48, "stride": 4, "accumulate": "patch"},
    {"scales": (1.0, 2.0)},
    {"scales": (1.5, 1.0), "stride": 4},
    {"size": 91, "scales": (1.0, 1.5), "window": 40, "window_step": 13},
]


@pytest.mark.parametrize("settings", VIEWS, ids=str)
@pytest.mark.parametrize("size", [(64, 64), (240, 320), (301, 203), (50, 35), (90, 700)])
def test_what_is_drawn_at_a_place_responds_there(size: tuple[int, int], settings: dict) -> None:
    height, width = size
    for cy, cx in ((0.3, 0.35), (0.7, 0.4), (0.5, 0.75)):
        # Three tenths of the short side, off any grid.
        half = 0.15 * min(size)
        box = [round(v) for v in (cy * height - half, cy * height + half, cx * width - half, cx * width + half)]
        truth = np.zeros(size, bool)
        truth[box[0] : box[1], box[2] : box[3]] = True
        result = run(picture(height, width, box), ["red", "grey"], **settings)
        mask = result.mask("red")
        assert mask.any()
        patch = 8 / (settings.get("size", 64) / min(size))  # in pixels of the picture
        for axis in (0, 1):
            drift = abs(np.nonzero(mask)[axis].mean() - np.nonzero(truth)[axis].mean())
            assert drift < 0.2 * patch + 0.5, (axis, drift, patch)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.5


@pytest.mark.parametrize("settings", VIEWS, ids=str)
def test_a_mirrored_picture_gives_the_mirrored_map(settings: dict) -> None:
    # Any systematic shift, in the resize, the windows or the upsampling, breaks this. With 96 x 144 and steps of 8 no
    # window is shifted inwards at one end only.
    settings = {**settings, "size": 96, **({"window_step": 8} if "window" in settings else {})}
    image = noise(144, 216)
    straight = run(image, ["red", "green", "blue"], **settings)
    mirrored = run(image[::-1, ::-1], ["red", "green", "blue"], **settings)
    for label in straight.labels:
        difference = np.abs(straight.score_map(label) - mirrored.score_map(label)[::-1, ::-1])
        assert difference.max() < 0.01


def test_exact_values_when_every_patch_is_one_colour() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = COLOURS["red"]
    image[:, 32:] = COLOURS["blue"]
    result = run(image, ["red", "blue"])
    assert (result.index[:, :32] == 1).all()
    assert (result.index[:, 32:] == 2).all()
    red = result.score_map("red")
    assert red.shape == (64, 64)
    assert red.dtype == np.float32
    # Between the centres of the patches at columns 27.5 and 35.5 the cosine falls linearly from 1 to 0.
    np.testing.assert_allclose(red[10, 20:44], np.interp(np.arange(20, 44), [27.5, 35.5], [1, 0]), atol=1e-5)
    assert result.shares == [0.5, 0.5]
    assert all(0.9 < score < 1 for score in result.scores)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (1, 5000), (3, 2), (2000, 7)])
@pytest.mark.parametrize("settings", [{}, {"window": 32, "accumulate": "pixel"}, {"window": 32, "stride": 4}], ids=str)
def test_pictures_of_any_shape(size: tuple[int, int], settings: dict) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = COLOURS["red"]
    image[size[0] // 2 :, size[1] // 2 :] = COLOURS["blue"]
    result = run(image, ["red", "blue"], **settings)
    assert result.index.shape == size
    assert sum(result.shares) == pytest.approx(1)
    if max(size) > 1:
        assert result.shares == pytest.approx([0.5, 0.5], abs=0.1)
        assert result.index[0, 0] == 1
        assert result.index[-1, -1] == 2
