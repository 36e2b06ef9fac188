"""Pictures of results: right colours in the right places, nothing hidden, any size and any label."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pacl.errors import UserError
from pacl.results.render import heat, overlay, palette, save_image, save_json, save_mask, summary, write_whole
from tests.paths import SHARED

VOC = SHARED / "data/VOCdevkit/VOC2012"


def scene(height: int = 400, width: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Grey picture [H, W, 3]; left third nothing, then label 1, then label 3."""
    index = np.zeros((height, width), np.uint8)
    index[:, width // 3 :] = 1
    index[:, 2 * width // 3 :] = 3
    return np.full((height, width, 3), 128, np.uint8), index


# --- Colours ----------------------------------------------------------------------------------------


def test_palette_is_black_then_distinct_and_never_changes() -> None:
    colours = palette(255)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours}) == 256
    for count in (0, 1, 20, 21, 100):
        assert np.array_equal(palette(count), colours[: count + 1])
    assert palette(65_534).shape == (65_535, 3)


def test_first_colours_differ_also_without_red_or_green_receptors() -> None:
    """Distances in OKLab (Ottosson 2020) of colours as dichromats see them (Machado et al. 2009)."""
    srgb = palette(8)[1:] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = {
        "all": np.eye(3),
        "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    }
    to_lms = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
    to_lab = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
    for who, matrix in seen.items():
        lab = np.cbrt(np.clip(linear @ np.transpose(matrix), 0, 1) @ to_lms.T) @ to_lab.T
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(8)
        assert apart.min() > (0.12 if who == "all" else 0.06), who


# --- Overlay ----------------------------------------------------------------------------------------


def test_fills_lean_towards_their_colour_and_the_rest_stays() -> None:
    image, index = scene()
    card = overlay(image, index, ["a", "b", "c"])
    margin = (card.shape[1] - 900) // 2
    picture = card[margin : margin + 400, margin : margin + 900].astype(int)
    assert np.abs(picture[200, 150] - 128).max() <= 1  # unlabelled grey
    for x, label in ((450, 1), (750, 3)):
        assert np.abs(picture[200, x] - (128 + palette(3)[label].astype(int)) / 2).max() <= 1
    assert np.abs(picture[200, 301] - palette(3)[1]).max() < 12  # the outline is solid


def test_opacity() -> None:
    image, index = scene()
    margin = (overlay(image, index, ["a", "b", "c"]).shape[1] - 900) // 2
    clear = overlay(image, index, ["a", "b", "c"], opacity=0)[margin + 200, margin + 450]
    solid = overlay(image, index, ["a", "b", "c"], opacity=1)[margin + 200, margin + 450]
    assert clear.tolist() == [128] * 3
    assert solid.tolist() == palette(1)[1].tolist()


def test_edges_are_anti_aliased() -> None:
    """A slanted edge has many in-between values, not two."""
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
def test_small_pictures_are_enlarged(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    index = np.ones(size, np.uint8)
    card = overlay(np.full((*size, 3), 60, np.uint8), index, ["thing"])
    assert card.dtype == np.uint8
    assert card.shape[0] > drawn[0]
    assert card.shape[1] > drawn[1]
    assert max(card.shape) < 1100


def test_large_pictures_are_scaled_down() -> None:
    image = np.zeros((4000, 6000, 3), np.uint8)
    index = np.zeros((4000, 6000), np.uint16)
    index[1000:3000, 1000:5000] = 300
    card = overlay(image, index, [f"label {i}" for i in range(300)])
    assert card.shape[1] < 2200
    assert card.shape[0] < 1333 + 600


def test_the_legend_never_covers_the_picture() -> None:
    """However many labels: the picture's own rows are what they are with one label."""
    image, index = scene()
    few = overlay(image, index, ["a", "b", "c"])
    many = overlay(image, index, ["a", "b", "c", *(f"something {i}" for i in range(200))])
    margin = (few.shape[1] - 900) // 2
    assert np.array_equal(few[: 400 + margin, : 900 + margin], many[: 400 + margin, : 900 + margin])
    assert many.shape[0] > few.shape[0]


def test_wide_pictures_have_it_below_and_tall_ones_beside() -> None:
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
    assert heat(image, index.astype(float), names[0]).shape[1] < 1000


def test_nothing_found_and_everything_found() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    assert overlay(image, np.zeros((100, 100), np.uint8), ["a"]).size
    assert overlay(image, np.ones((100, 100), np.uint8), ["a"]).size
    assert overlay(image, np.arange(10_000).reshape(100, 100).astype(np.uint16) % 200, list(map(str, range(199)))).size


def test_the_inputs_are_left_alone() -> None:
    image, index = scene()
    overlay(image, index, ["a", "b", "c"])
    heat(image, index.astype(np.float32))
    assert np.array_equal(image, scene()[0])
    assert np.array_equal(index, scene()[1])


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), ["a"])
    with pytest.raises(ValueError, match="differ"):
        heat(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4)))


@pytest.mark.skipif(not VOC.exists(), reason=f"no real photos at {VOC}")
def test_real_photos() -> None:
    for path in sorted((VOC / "SegmentationClass").glob("*.png"))[:3]:
        index = np.array(Image.open(path))
        index[index == 255] = 0
        image = np.asarray(Image.open(VOC / f"JPEGImages/{path.stem}.jpg").convert("RGB"))
        card = overlay(image, index, [f"class {i}" for i in range(1, 21)])
        found = np.unique(index[index > 0])
        assert all((card == palette(20)[i]).all(-1).sum() > 50 for i in found)  # its chip, at least


# --- Heat map ---------------------------------------------------------------------------------------


def test_heat_is_bright_where_scores_are_high() -> None:
    image = np.full((400, 800, 3), 100, np.uint8)
    scores = np.tile(np.linspace(-0.1, 0.3, 800, dtype=np.float32), (400, 1))
    card = heat(image, scores, "a dog")
    brightness = card[200, 100:750:50].astype(int).sum(1)
    assert (np.diff(brightness) > 0).all()
    assert card.shape[0] > 400 + 40


def test_heat_limits_give_two_pictures_one_scale() -> None:
    image = np.full((400, 800, 3), 100, np.uint8)
    low = heat(image, np.full((400, 800), 0.1), limits=(0, 1))[200, 400]
    high = heat(image, np.full((400, 800), 0.9), limits=(0, 1))[200, 400]
    assert low.astype(int).sum() < high.astype(int).sum()


@pytest.mark.parametrize("value", [0.0, 0.5, np.nan, np.inf, -1e30])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_heat_of_odd_maps(value: float, size: tuple[int, int]) -> None:
    assert heat(np.zeros((*size, 3), np.uint8), np.full(size, value), "x" * 500).size


# --- Summary ----------------------------------------------------------------------------------------


def test_summary() -> None:
    _, index = scene(30, 90)
    found = summary(index, ["a", "b", "c"], [["a", "x"], ["b"], ["c"]], [0.5, float("nan"), None], outlines=True)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    first, absent, last = found
    assert (first["label"], first["id"], first["prompts"], first["score"]) == ("a", 1, ["a", "x"], 0.5)
    assert first["share"] == pytest.approx(1 / 3)
    assert first["box"] == [30, 0, 30, 30]
    assert np.array_equal(coco_mask.decode(last["rle"]), index == 3)
    assert last["polygons"]
    assert (absent["share"], absent["box"], absent["score"], absent["polygons"]) == (0, None, None, [])
    assert coco_mask.area(absent["rle"]) == 0


def test_summary_gives_only_what_is_asked_for() -> None:
    (entry,) = summary(np.ones((2, 2), np.uint16), ["a"], masks=False)
    assert {"rle", "polygons"}.isdisjoint(entry)
    assert entry["prompts"] == ["a"]
    assert entry["share"] == 1


# --- Files ------------------------------------------------------------------------------------------


def test_mask_is_a_palette_picture_of_ids(tmp_path: Path) -> None:
    _, index = scene(20, 30)
    save_mask(tmp_path / "m.png", index)
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), index)
        colours = np.asarray(mask.convert("RGB"))
    assert np.array_equal(colours, palette(3)[index])


def test_mask_of_255_and_of_more_labels(tmp_path: Path) -> None:
    index = np.arange(256, dtype=np.uint16).reshape(16, 16)
    save_mask(tmp_path / "m.png", index)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m.png")), index)
    save_mask(tmp_path / "m.png", index + 300)
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "I;16"
        assert np.array_equal(np.asarray(mask), index + 300)


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_save_image(tmp_path: Path, suffix: str, kind: str) -> None:
    save_image(tmp_path / f"new/folder/x.{suffix}", np.full((8, 8, 3), 77, np.uint8))
    with Image.open(tmp_path / f"new/folder/x.{suffix}") as image:
        assert image.format == kind
        assert np.abs(np.asarray(image).astype(int) - 77).max() < 4


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    save_json(tmp_path / "x.json", {"label": "犬", "box": [1, 2]})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"label": "犬", "box": [1, 2]}
    with pytest.raises(ValueError, match="JSON"):
        save_json(tmp_path / "y.json", float("nan"))
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_whole(path, lambda file: file.write(b"old"))

    def half(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_whole(path, half)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save_json(tmp_path / "file" / "x.json", {})
