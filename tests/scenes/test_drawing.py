"""Scenes are the same whenever drawn, and their masks and names say what is drawn where."""

import time

import numpy as np
import pytest

from pacl.scenes.captions import COLOURS, GROUNDS, HELD_OUT, KINDS, SEEN_PAIRS, TEXTURES
from pacl.scenes.drawing import (
    MIN_GROUND,
    MIN_VISIBLE,
    RGB,
    SILHOUETTES,
    SceneDataset,
    alike_scenes,
    draw_scene,
    scene,
)


def test_a_scene_is_a_function_of_its_arguments() -> None:
    first, later = scene("test", 7), [scene("test", i) for i in (3, 9, 7)][-1]
    np.testing.assert_array_equal(first.image, later.image)
    np.testing.assert_array_equal(first.mask, later.mask)
    assert (first.caption, first.names, first.phrases) == (later.caption, later.names, later.phrases)


@pytest.mark.parametrize("other", [{"split": "val"}, {"index": 8}, {"seed": 1}, {"pairs": "held_out"}])
def test_other_arguments_another_scene(other: dict) -> None:
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
        grounds = len(drawn.names) - len(drawn.things)
        assert set(drawn.names[:grounds]) <= set(GROUNDS)
        assert 1 <= grounds <= 2
        assert 1 <= len(drawn.things) <= 4
        assert counts[:grounds].min() >= MIN_GROUND * drawn.mask.size
        assert [thing.name for thing in drawn.things] == drawn.names[grounds:]


def test_nothing_is_hidden_for_the_most_part() -> None:
    """Seen again without what was drawn over it, at most MIN_VISIBLE's complement of an object is gone."""
    visible = []
    for drawn in SceneDataset("train", 300, size=96):
        for i, thing in enumerate(drawn.things):
            seen = np.count_nonzero(drawn.mask == len(drawn.names) - len(drawn.things) + i)
            visible.append(seen / (thing.size * 96) ** 2)
    # The slimmest outline, the moon's, fills about 0.24 of its square; the picture's edge may cut a tenth.
    assert min(visible) > MIN_VISIBLE * 0.24 * 0.85


@pytest.mark.parametrize("colour", COLOURS)
def test_the_mask_lies_on_the_colour(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside its mask an object (without its markings) has its colour or its shade, and around it nothing has."""
    from random import Random

    import cv2

    monkeypatch.setattr("pacl.scenes.drawing.INK_STRENGTH", 0.0)
    found = 0
    for i in range(60):
        drawn = draw_scene(Random(f"{colour}{i}"), n_objects=1, size=96)
        if drawn.things[0].colour != colour:
            continue
        found += 1
        mask = (drawn.mask == len(drawn.names) - 1).astype(np.uint8)
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) > 0
        around = (cv2.dilate(mask, np.ones((7, 7), np.uint8)) - cv2.dilate(mask, np.ones((3, 3), np.uint8))) > 0
        base, shade = (np.array(rgb, float) for rgb in RGB[colour])
        pixels = drawn.image.astype(float)
        t = np.clip(((pixels - base) @ (shade - base)) / ((shade - base) @ (shade - base)), 0, 1)
        distance = np.linalg.norm(pixels - (base + t[..., None] * (shade - base)), axis=-1)
        assert np.median(distance[inside]) < 75  # lighting is up to a fifth darker
        assert np.median(distance[inside]) < 0.7 * np.median(distance[around])
    assert found >= 2


def test_the_first_splits_hold_seen_pairs_only() -> None:
    for split in ("train", "val", "test"):
        for drawn in SceneDataset(split, 100, size=32):
            assert {(t.colour, t.kind) for t in drawn.things} <= set(SEEN_PAIRS)
    for drawn in SceneDataset("test", 100, size=32, pairs="held_out"):
        assert {(t.colour, t.kind) for t in drawn.things} <= HELD_OUT


def test_everything_occurs() -> None:
    drawn = list(SceneDataset("train", 600, size=24))
    things = [thing for s in drawn for thing in s.things]
    assert {(t.colour, t.kind) for t in things} == set(SEEN_PAIRS)
    assert {t.texture for t in things} == set(TEXTURES)
    assert {name for s in drawn for name in s.names} >= set(GROUNDS)
    assert {len(s.things) for s in drawn} == {1, 2, 3, 4}
    assert {s.layout for s in drawn} == {None, "over", "beside"}
    assert set(SILHOUETTES) == set(KINDS)


def test_n_objects() -> None:
    for n in (1, 4):
        assert all(len(s.things) == n for s in SceneDataset("test", 5, size=48, n_objects=n))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"split": "training"}, "training"),
        ({"split": "val", "pairs": "unseen"}, "unseen"),
        ({"split": "train", "pairs": "held_out"}, "seen pairs only"),
        ({"split": "train", "pairs": "all"}, "seen pairs only"),
    ],
)
def test_wrong_arguments(arguments: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        scene(index=0, **arguments)


def test_alike_scenes() -> None:
    first, again = alike_scenes(3, 4, size=32), alike_scenes(3, 4, size=32)
    assert [s.caption for s in first] == [s.caption for s in again]
    assert {(t.colour, t.kind) for b in range(40) for s in alike_scenes(b, 2, size=24) for t in s.things} <= set(
        SEEN_PAIRS
    )


def test_data_set_ends() -> None:
    data = SceneDataset("val", 3, size=24)
    assert len(list(data)) == len(data) == 3
    with pytest.raises(IndexError):
        data[3]


def test_drawing_is_fast() -> None:
    scene("train", 0)
    start = time.process_time()
    for i in range(100):
        scene("train", i)
    assert (time.process_time() - start) / 100 < 0.01  # seconds a scene; about 0.0007 on an idle core
