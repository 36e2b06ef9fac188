"""Captions are true, use only words of the vocabulary, and never mention a held-out pair in training."""

import itertools
import re

import pytest

from pacl.scenes.captions import (
    ALL_PAIRS,
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    SEEN_PAIRS,
    VOCABULARY,
    object_name,
)
from pacl.scenes.drawing import Scene, SceneDataset
from tests.scenes.names import HELD_OUT_NAMES


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(SceneDataset("train", 400, size=48))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text)


def named(caption: str) -> set[str]:
    """All "<colour> <kind>" in a caption."""
    found = words(caption)
    return {object_name(c, k) for c, k in itertools.pairwise(found) if c in COLOURS and k in KINDS}


def test_held_out_pairs_cover_all_kinds_and_colours() -> None:
    assert len(HELD_OUT) == 10
    assert {kind for _, kind in HELD_OUT} == set(KINDS)
    assert {colour for colour, _ in HELD_OUT} == set(COLOURS)
    assert not HELD_OUT & set(SEEN_PAIRS)
    assert len(SEEN_PAIRS) + len(HELD_OUT) == len(ALL_PAIRS) == 80


def test_articles() -> None:
    assert object_name("red", "star") == "a red star"
    assert object_name("orange", "boat") == "an orange boat"


def test_phrases_are_the_names_in_the_caption(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert set(scene.phrases) <= set(scene.names), scene.caption
        assert named(scene.caption) == {p for p in scene.phrases if p not in GROUNDS}, scene.caption
        assert set(words(scene.caption)) & set(GROUNDS) == set(scene.phrases) & set(GROUNDS), scene.caption
        assert len(set(scene.phrases)) == len(scene.phrases)


def test_training_captions_never_mention_a_held_out_pair(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert not named(scene.caption) & set(HELD_OUT_NAMES), scene.caption
    held_out = SceneDataset("test", 50, size=32, pairs="held_out")
    assert set().union(*(named(scene.caption) for scene in held_out)) <= set(HELD_OUT_NAMES)


def test_the_vocabulary_is_exactly_the_words_of_captions(scenes: list[Scene]) -> None:
    from random import Random

    rng = Random(0)
    said = {word for scene in scenes for _ in range(20) for word in words(scene.describe(rng)[0])}
    assert said == set(VOCABULARY)


def test_spatial_relations_are_true(scenes: list[Scene]) -> None:
    """After "left of" the second object is further right; after "in front of" it was rendered earlier."""
    pattern = re.compile(r"(\w+ \w+) (left of|right of|in front of|behind) (?:an?|the) (.*)")
    checked = 0
    for scene in scenes:
        objects = {f"{t.colour} {t.kind}": (i, t) for i, t in enumerate(scene.objects)}
        match = pattern.search(scene.caption)
        if match is None:
            continue
        first = objects.get(match[1])
        second = next((objects[name] for name in objects if re.match(rf"(\w+ )*?{name}\b", match[3])), None)
        if first is None or second is None or not re.match(r"(\w+ ){0,2}" + second[1].colour, match[3]):
            continue
        (i, a), (j, b) = first, second
        checked += 1
        holds = {
            "left of": a.x < b.x,
            "right of": a.x > b.x,
            "in front of": j in a.covers,
            "behind": i in b.covers,
        }
        assert holds[match[2]], scene.caption
    assert checked > 20


def test_sizes_and_textures_are_true(scenes: list[Scene]) -> None:
    for scene in scenes:
        for obj in scene.objects:
            for size, texture in re.findall(
                rf"(large|big|small|tiny)? ?(plain|striped|dotted|checkered)? {obj.colour} {obj.kind}",
                scene.caption,
            ):
                assert texture in ("", obj.texture), scene.caption
                assert not (size in ("large", "big") and obj.size < 0.52), scene.caption
                assert not (size in ("small", "tiny") and obj.size > 0.37), scene.caption
