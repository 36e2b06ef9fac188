"""Scenes are reproducible, and their masks and names match their images."""

import time

import numpy as np
import pytest

from pacl.errors import ArgumentError
from pacl.scenes.captions import COLOURS, GROUNDS, HELD_OUT, KINDS, SEEN_PAIRS, TEXTURES
from pacl.scenes.drawing import (
    MIN_GROUND,
    MIN_VISIBLE,
    SceneDataset,
    draw_scene,
    scene,
    similar_scenes,
)
from pacl.scenes.objects import RGB, SILHOUETTES


def test_a_scene_depends_only_on_its_arguments() -> None:
    first, later = scene("test", 7), [scene("test", i) for i in (3, 9, 7)][-1]
    np.testing.assert_array_equal(first.image, later.image)
    np.testing.assert_array_equal(first.mask, later.mask)
    assert (first.caption, first.names, first.phrases) == (later.caption, later.names, later.phrases)


@pytest.mark.parametrize("other", [{"split": "val"}, {"index": 8}, {"seed": 1}, {"pairs": "held_out"}])
def test_other_arguments_give_another_scene(other: dict) -> None:
    arguments: dict = {"split": "test", "index": 7, "seed": 0, "pairs": "seen"}
    assert not np.array_equal(scene(**arguments).image, scene(**arguments | other).image)


@pytest.mark.parametrize("size", [32, (96, 96), (90, 120), (360, 270)])
def test_any_size(size: int | tuple[int, int]) -> None:
    drawn = scene("val", 3, size=size)
    h, w = (size, size) if isinstance(size, int) else size
    assert drawn.image.shape == (h, w, 3)
    assert drawn.image.dtype == drawn.mask.dtype == np.uint8
    assert drawn.mask.shape == (h, w)


def test_the_same_layout_at_every_size() -> None:
    for i in range(5):
        small, large = scene("val", i, size=96), scene("val", i, size=288)
        assert small.caption == large.caption
        assert np.mean(small.mask == large.mask[1::3, 1::3]) > 0.98


def test_names_and_mask_agree() -> None:
    for drawn in SceneDataset("train", 200, size=64):
        counts = np.bincount(drawn.mask.ravel(), minlength=len(drawn.names))
        assert len(counts) == len(drawn.names) == len(set(drawn.names))
        grounds = len(drawn.names) - len(drawn.objects)
        assert set(drawn.names[:grounds]) <= set(GROUNDS)
        assert 1 <= grounds <= 2
        assert 1 <= len(drawn.objects) <= 4
        assert counts[:grounds].min() >= MIN_GROUND * drawn.mask.size
        assert [obj.name for obj in drawn.objects] == drawn.names[grounds:]


def test_every_object_stays_visible() -> None:
    """At least MIN_VISIBLE of the area of each object is visible."""
    visible = []
    for drawn in SceneDataset("train", 300, size=96):
        for i, obj in enumerate(drawn.objects):
            seen = np.count_nonzero(drawn.mask == len(drawn.names) - len(drawn.objects) + i)
            visible.append(seen / (obj.size * 96) ** 2)
    # The smallest outline, the moon, fills about 0.24 of its square; a tenth of it may be outside the image.
    assert min(visible) > MIN_VISIBLE * 0.24 * 0.85


@pytest.mark.parametrize("colour", COLOURS)
def test_the_mask_matches_the_colour(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its markings, an object has its colour or shade inside its mask, and no pixel around it has."""
    from random import Random

    import cv2

    monkeypatch.setattr("pacl.scenes.objects.INK_STRENGTH", 0.0)
    found = 0
    for i in range(60):
        drawn = draw_scene(Random(f"{colour}{i}"), n_objects=1, size=96)
        if drawn.objects[0].colour != colour:
            continue
        found += 1
        mask = (drawn.mask == len(drawn.names) - 1).astype(np.uint8)
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) > 0
        around = (cv2.dilate(mask, np.ones((7, 7), np.uint8)) - cv2.dilate(mask, np.ones((3, 3), np.uint8))) > 0
        base, shade = (np.array(rgb, float) for rgb in RGB[colour])
        pixels = drawn.image.astype(float)
        t = np.clip(((pixels - base) @ (shade - base)) / ((shade - base) @ (shade - base)), 0, 1)
        distance = np.linalg.norm(pixels - (base + t[..., None] * (shade - base)), axis=-1)
        assert np.median(distance[inside]) < 75  # lighting makes colours up to a fifth darker
        assert np.median(distance[inside]) < 0.7 * np.median(distance[around])
    assert found >= 2


def test_scenes_contain_only_the_requested_pairs() -> None:
    for split in ("train", "val", "test"):
        for drawn in SceneDataset(split, 100, size=32):
            assert {(t.colour, t.kind) for t in drawn.objects} <= set(SEEN_PAIRS)
    for drawn in SceneDataset("test", 100, size=32, pairs="held_out"):
        assert {(t.colour, t.kind) for t in drawn.objects} <= HELD_OUT


def test_everything_occurs() -> None:
    drawn = list(SceneDataset("train", 600, size=24))
    objects = [obj for s in drawn for obj in s.objects]
    assert {(t.colour, t.kind) for t in objects} == set(SEEN_PAIRS)
    assert {t.texture for t in objects} == set(TEXTURES)
    assert {name for s in drawn for name in s.names} >= set(GROUNDS)
    assert {len(s.objects) for s in drawn} == {1, 2, 3, 4}
    assert {s.layout for s in drawn} == {None, "over", "beside"}
    assert set(SILHOUETTES) == set(KINDS)


def test_n_objects() -> None:
    for n in (1, 4):
        assert all(len(s.objects) == n for s in SceneDataset("test", 5, size=48, n_objects=n))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"split": "training"}, "split"),
        ({"split": "val", "pairs": "unseen"}, "pairs"),
        ({"split": "train", "pairs": "held_out"}, "pairs"),
        ({"split": "train", "pairs": "all"}, "pairs"),
    ],
)
def test_wrong_arguments(arguments: dict, wrong: str) -> None:
    with pytest.raises(ArgumentError) as error:
        scene(index=0, **arguments)
    assert (error.value.argument, error.value.value) == (wrong, arguments[wrong])


def test_similar_scenes() -> None:
    first, again = similar_scenes(3, 4, size=32), similar_scenes(3, 4, size=32)
    assert [s.caption for s in first] == [s.caption for s in again]
    assert {(t.colour, t.kind) for b in range(40) for s in similar_scenes(b, 2, size=24) for t in s.objects} <= set(
        SEEN_PAIRS
    )


def test_the_data_set_has_an_end() -> None:
    data = SceneDataset("val", 3, size=24)
    assert len(list(data)) == len(data) == 3
    with pytest.raises(IndexError):
        data[3]


def test_drawing_is_fast() -> None:
    scene("train", 0)
    start = time.process_time()
    for i in range(100):
        scene("train", i)
    assert (time.process_time() - start) / 100 < 0.01  # seconds per scene; about 0.0007 on an idle core
