"""Overlays and heat maps: right colours in the right places, nothing covered, any size and any label."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from pacl.results.overlay import _depth, fit, heat_map, overlay, paint_labels, paint_scores, score_limits
from pacl.results.palette import palette
from tests.paths import SHARED

VOC = SHARED / "data/VOCdevkit/VOC2012"


def scene(height: int = 400, width: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Grey image [H, W, 3]; left third unlabelled, then label 1, then label 3."""
    index = np.zeros((height, width), np.uint8)
    index[:, width // 3 :] = 1
    index[:, 2 * width // 3 :] = 3
    return np.full((height, width, 3), 128, np.uint8), index


# --- Overlay ----------------------------------------------------------------------------------------


def test_labels_are_blended_with_their_colour() -> None:
    image, index = scene()
    card = overlay(image, index, ["a", "b", "c"])
    margin = (card.shape[1] - 900) // 2
    painted = card[margin : margin + 400, margin : margin + 900].astype(int)
    assert np.abs(painted[200, 150] - 128).max() <= 1  # unlabelled grey
    for x, label in ((450, 1), (750, 3)):
        assert np.abs(painted[200, x] - (128 + palette(3)[label].astype(int)) / 2).max() <= 1
    assert np.abs(painted[200, 301] - palette(3)[1]).max() < 12  # the outline is solid


def test_opacity() -> None:
    image, index = scene()
    margin = (overlay(image, index, ["a", "b", "c"]).shape[1] - 900) // 2
    clear = overlay(image, index, ["a", "b", "c"], opacity=0)[margin + 200, margin + 450]
    solid = overlay(image, index, ["a", "b", "c"], opacity=1)[margin + 200, margin + 450]
    assert clear.tolist() == [128] * 3
    assert solid.tolist() == palette(1)[1].tolist()


@pytest.mark.parametrize(("height", "width", "count", "blob"), [(375, 500, 5, 40), (281, 900, 150, 3), (20, 30, 3, 4)])
@pytest.mark.parametrize("opacity", [0.0, 0.4, 1.0])
def test_labels_are_blended_one_after_another(height: int, width: int, count: int, blob: int, opacity: float) -> None:
    """The formulas of a desaturated ground, a rim, a fill and an outline, on all pixels in [H, W, 3] at once."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    coarse = random.integers(0, count + 1, (height // blob + 1, width // blob + 1)).astype(np.uint8)
    index = coarse.repeat(blob, 0).repeat(blob, 1)[:height, :width]
    painted = paint_labels(image, index, opacity=opacity)
    view = image[::-1].copy()[::-1]  # with a negative stride
    assert np.array_equal(paint_labels(view, index, opacity=opacity), painted)

    image = fit(image)
    size = image.shape[1::-1]
    softness, line = max(0.9, 0.42 * max(size) / width), max(2.2, max(size) / 400)
    index = cv2.resize(index, size, interpolation=cv2.INTER_NEAREST_EXACT)
    canvas = image.astype(np.float32)
    ground = np.clip(_depth(index == 0, softness) + 0.5, 0, 1)[..., None]
    canvas += 0.45 * ground * (canvas.mean(axis=2, keepdims=True) - canvas)
    for label in np.unique(index[index > 0]):
        depth = _depth(index == label, softness)[..., None]
        fill = np.clip(depth + 0.5, 0, 1)
        rim = np.clip(min(1.5, 1.2 * softness) + depth, 0, 1) * (1 - fill) * ground
        edge = fill * np.clip(line + 0.5 - depth, 0, 1)
        canvas += 0.55 * rim * (255 - canvas)
        canvas += np.maximum(opacity * fill, 0.95 * edge) * (palette(count)[label] - canvas)
    assert np.abs(painted - np.rint(canvas)).max() <= 1


def test_edges_are_anti_aliased() -> None:
    """A slanted edge has many intermediate values."""
    y, x = np.mgrid[0:400, 0:900]
    index = (x > 300 + 0.3 * y).astype(np.uint8)
    card = overlay(np.full((400, 900, 3), 128, np.uint8), index, ["a"])
    assert len(np.unique(card[40:380, 300:480].reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((1, 1), (800, 800)),
        ((32, 32), (800, 800)),
        ((300, 1), (800, 32)),
        ((1, 300), (32, 800)),
        ((90, 120), (600, 800)),
    ],
)
def test_small_images_are_enlarged(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    index = np.ones(size, np.uint8)
    card = overlay(np.full((*size, 3), 60, np.uint8), index, ["thing"])
    assert card.dtype == np.uint8
    assert card.shape[0] > drawn[0]
    assert card.shape[1] > drawn[1]
    assert max(card.shape) < 1100


def test_large_images_are_scaled_down() -> None:
    image = np.zeros((4000, 6000, 3), np.uint8)
    index = np.zeros((4000, 6000), np.uint16)
    index[1000:3000, 1000:5000] = 300
    card = overlay(image, index, [f"label {i}" for i in range(300)])
    assert card.shape[1] < 2200
    assert card.shape[0] < 1333 + 600


def test_the_legend_never_covers_the_image() -> None:
    """With any number of labels the pixels of the image are the same."""
    image, index = scene()
    few = overlay(image, index, ["a", "b", "c"])
    many = overlay(image, index, ["a", "b", "c", *(f"something {i}" for i in range(200))])
    margin = (few.shape[1] - 900) // 2
    assert np.array_equal(few[: 400 + margin, : 900 + margin], many[: 400 + margin, : 900 + margin])
    assert many.shape[0] > few.shape[0]


def test_the_legend_is_below_wide_images_and_beside_tall_ones() -> None:
    wide, tall = overlay(*scene(300, 900), ["a", "b", "c"]), overlay(*scene(900, 300), ["a", "b", "c"])
    assert wide.shape[0] > 300 + 60
    assert wide.shape[1] < 950
    assert tall.shape[0] < 950
    assert tall.shape[1] > 300 + 200


def test_legend_shows_the_colours_of_labels_found_only() -> None:
    image, index = scene()
    below = overlay(image, index, ["a", "b", "c"])[430:].reshape(-1, 3).tolist()
    colours = palette(3).tolist()
    assert colours[1] in below
    assert colours[3] in below
    assert colours[2] not in below


@pytest.mark.parametrize(
    "names",
    [
        ["собака", "犬", "حصان"],
        ["🐶", "\x00\n\t", "é ü ß"],
        ["", " ", "x" * 5000],
        ["very " * 100 + "long", "short", "b"],
    ],
)
def test_any_name_can_be_drawn(names: list[str]) -> None:
    image, index = scene()
    card = overlay(image, index, names)
    assert card.shape[1] < 1000
    assert heat_map(image, index.astype(float), names[0]).shape[1] < 1000


def test_nothing_found_and_everything_found() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    assert overlay(image, np.zeros((100, 100), np.uint8), ["a"]).size
    assert overlay(image, np.ones((100, 100), np.uint8), ["a"]).size
    assert overlay(image, np.arange(10_000).reshape(100, 100).astype(np.uint16) % 200, list(map(str, range(199)))).size


def test_inputs_are_not_changed() -> None:
    image, index = scene()
    overlay(image, index, ["a", "b", "c"])
    heat_map(image, index.astype(np.float32))
    assert np.array_equal(image, scene()[0])
    assert np.array_equal(index, scene()[1])


def test_without_legends_only_the_image_is_left() -> None:
    image, index = scene(300, 600)
    assert fit(image, 300).shape == (150, 300, 3)
    painted = paint_labels(image, index, long_side=300)
    assert np.array_equal(painted, overlay(image, index, ["a", "b", "c"], long_side=300)[16:166, 16:316])
    limits = score_limits([index, index - 1.0])
    assert limits == (-1, 3)
    heat = heat_map(image, index, limits=limits, long_side=300)
    assert np.array_equal(paint_scores(image, index.astype(np.float32), limits, long_side=300), heat[16:166, 16:316])


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), ["a"])
    with pytest.raises(ValueError, match="differ"):
        heat_map(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4)))


@pytest.mark.skipif(not VOC.exists(), reason=f"no real photos at {VOC}")
def test_real_photos() -> None:
    for path in sorted((VOC / "SegmentationClass").glob("*.png"))[:3]:
        index = np.array(Image.open(path))
        index[index == 255] = 0
        image = np.asarray(Image.open(VOC / f"JPEGImages/{path.stem}.jpg").convert("RGB"))
        card = overlay(image, index, [f"class {i}" for i in range(1, 21)])
        found = np.unique(index[index > 0])
        assert all((card == palette(20)[i]).all(-1).sum() > 50 for i in found)  # at least its swatch


# --- Heat map ---------------------------------------------------------------------------------------


def test_heat_is_bright_where_scores_are_high() -> None:
    image = np.full((400, 800, 3), 100, np.uint8)
    scores = np.tile(np.linspace(-0.1, 0.3, 800, dtype=np.float32), (400, 1))
    card = heat_map(image, scores, "a dog")
    brightness = card[200, 100:750:50].astype(int).sum(1)
    assert (np.diff(brightness) > 0).all()
    assert card.shape[0] > 400 + 40


def test_heat_limits_are_a_common_scale() -> None:
    image = np.full((400, 800, 3), 100, np.uint8)
    low = heat_map(image, np.full((400, 800), 0.1), limits=(0, 1))[200, 400]
    high = heat_map(image, np.full((400, 800), 0.9), limits=(0, 1))[200, 400]
    assert low.astype(int).sum() < high.astype(int).sum()


@pytest.mark.parametrize("value", [0.0, 0.5, np.nan, np.inf, -1e30])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_heat_of_unusual_maps(value: float, size: tuple[int, int]) -> None:
    assert heat_map(np.zeros((*size, 3), np.uint8), np.full(size, value), "x" * 500).size
