"""COCO run lengths, boxes and polygons decode to the mask that they encode."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from pacl.results.coco import box, polygons, polygons_of_rle, rles


def shapes() -> np.ndarray:
    """Bool [80, 100]: a disc with a round hole that holds an island, a bar, a blob at the border."""
    canvas = np.zeros((80, 100), np.uint8)
    cv2.circle(canvas, (40, 40), 30, 1, -1)
    cv2.circle(canvas, (35, 42), 14, 0, -1)
    cv2.circle(canvas, (36, 40), 5, 1, -1)
    cv2.rectangle(canvas, (78, 5), (82, 60), 1, -1)
    cv2.ellipse(canvas, (99, 79), (14, 9), 0, 0, 360, 1, -1)
    return canvas.astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


# --- Run lengths ------------------------------------------------------------------------------------


def test_rle_is_json_and_pycocotools_reads_it() -> None:
    (encoded,) = json.loads(json.dumps(rles(shapes().astype(np.uint8), 1)))
    assert encoded["size"] == [80, 100]
    assert np.array_equal(coco_mask.decode(encoded).astype(bool), shapes())
    assert coco_mask.area(encoded) == shapes().sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (31, 47)])
def test_all_ids_at_once_equal_one_by_one(size: tuple[int, int], dtype: type) -> None:
    index = np.random.default_rng(0).integers(0, 5, size).astype(dtype)
    index[index == 3] = 0  # an absent id among the others
    reference = [coco_mask.encode(np.asfortranarray(index == i, dtype=np.uint8)) for i in range(1, 7)]
    assert rles(index, 6) == [{"size": list(size), "counts": each["counts"].decode()} for each in reference]


@pytest.mark.parametrize("value", [0, 1, 2])
def test_constant_images(value: int) -> None:
    index = np.full((7, 5), value, np.uint8)
    assert [coco_mask.area(one) for one in rles(index, 2)] == [35 * (value == 1), 35 * (value == 2)]


def test_box() -> None:
    index = np.zeros((20, 30), np.uint8)
    index[4:9, 11:14] = 2
    assert [box(one) for one in rles(index, 2)] == [None, [11, 4, 3, 5]]
    assert all(type(value) is int for value in box(rles(index, 2)[1]) or ())


# --- Polygons ---------------------------------------------------------------------------------------


def coco_filled(found: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    encoded: Any = coco_mask.merge(coco_mask.frPyObjects(found, *size))
    return coco_mask.decode(encoded).astype(bool)


@pytest.mark.parametrize(("tolerance", "least"), [(0, 0.995), (0.5, 0.97), (1.5, 0.9)])
def test_polygons_fill_to_the_mask_with_holes_and_islands(tolerance: float, least: float) -> None:
    found = polygons(shapes(), tolerance)
    assert len(found) == 4
    assert iou(coco_filled(found, (80, 100)), shapes()) > least


def test_every_hole_of_a_net_stays_a_hole() -> None:
    net = np.ones((60, 60), bool)
    for i in (3, 4):
        for j in (3, 4):
            net[i::10, j::10] = False
    (ring,) = polygons(net)
    assert np.array_equal(coco_filled([ring], net.shape), net)
    # A hole adds its corners, the first one again and that of the outer ring: the way back from one never leads along
    # another, or the work would grow with the square of their number.
    assert len(ring) // 2 == 4 + 36 * 6


def test_polygons_run_along_pixel_edges() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:6, 3:10] = True
    (ring,) = polygons(mask)
    corners = {(ring[i], ring[i + 1]) for i in range(0, len(ring), 2)}
    assert corners == {(3, 2), (10, 2), (10, 6), (3, 6)}


def test_a_single_pixel_and_a_line_have_an_outline() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    mask[7, 1:8] = True
    found = polygons(mask)
    assert len(found) == 2
    assert np.array_equal(coco_filled(found, (9, 9)), mask)


def test_polygons_of_run_lengths() -> None:
    first, empty = rles(shapes().astype(np.uint8), 2)
    assert polygons_of_rle(first) == polygons(shapes())
    assert polygons_of_rle(empty) == []


def test_a_full_and_an_empty_mask() -> None:
    assert polygons(np.zeros((5, 5), bool)) == []
    (ring,) = polygons(np.ones((5, 8), bool))
    assert (min(ring[::2]), max(ring[::2]), min(ring[1::2]), max(ring[1::2])) == (0, 8, 0, 5)


def test_simplifying_saves_points() -> None:
    exact, simple = polygons(shapes(), 0), polygons(shapes())
    assert sum(map(len, simple)) < 0.6 * sum(map(len, exact))
    json.dumps(simple)


def test_other_rasterisers_agree_on_holes() -> None:
    """Pillow's even-odd fill of one self-touching ring leaves the hole empty as well."""
    canvas = Image.new("1", (1000, 800))
    for ring in polygons(shapes(), 0):
        ImageDraw.Draw(canvas).polygon([10 * value for value in ring], fill=1)
    filled = np.asarray(canvas).reshape(80, 10, 100, 10).mean((1, 3)) > 0.5
    filled[36:45, 31:42] = shapes()[36:45, 31:42]  # the island is a ring of its own
    assert iou(filled, shapes()) > 0.97
