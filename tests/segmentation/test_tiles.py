"""The decisions of tiles, which see few classes, are those of bands of rows, which see the probabilities of all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pacl.segmentation.tiles
from pacl.prompts import Label
from pacl.segmentation.background import parse_background
from pacl.segmentation.encode import encode_images
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.query import Query
from pacl.segmentation.scoring import ClassMaps, band_decisions, by_tiles, class_maps, decisions, tile_decisions
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.tiles import tile_winners
from tests.colours import ColourModel, noise
from tests.segmentation.red_square import run

VIEWS = [
    {},
    {"size": 77, "stride": 4},
    {"size": 91, "window": 40, "window_step": 13, "accumulate": "pixel"},
    {"size": 90, "window": 48, "window_step": 40, "stride": 4, "accumulate": "pixel"},
    {"size": 91, "window": 40, "window_step": 13, "accumulate": "patch"},
    {"size": 77, "remainder": "cut", "accumulate": "pixel", "upsampling": "twice"},
    {"scales": (1.0, 2.0)},
]
LABELS = 50


@pytest.fixture(params=[2**20, 4 * 2 * LABELS * 9**2], ids=["one tile", "tiles of 9 pixels"])
def tile_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pacl.segmentation.tiles, "TILE_BYTES", request.param)
    return request.param


def some_maps(scale: float, **view: object) -> PatchMaps:
    """Scores of an image of random colours with two prompts for each of `LABELS` labels."""
    torch.manual_seed(0)
    ((encoded,),) = encode_images([ColourModel()], [noise(70, 93)], SegmenterSettings(**view))  # type: ignore[list-item]
    patches = encoded.patches
    texts = F.normalize(torch.randn(2 * LABELS, patches.values.shape[1]), dim=1)
    return replace(patches, values=scale * patches.similarity(texts).values)


def some_query(rule: str = "none", background: int = 0) -> Query:
    ids = (*[0] * background, *(1 + (n + background) // 2 for n in range(2 * LABELS - background)))
    labels = tuple(Label(str(i), (str(i),)) for i in range(max(ids)))
    return Query(labels, tuple(map(str, range(2 * LABELS))), ids, parse_background(rule))


def assert_same(maps: ClassMaps, size: tuple[int, int] | None = None, atol: float = 1e-5) -> None:
    """Equal probabilities of the winners, and equal winners where the first two are not equally probable."""
    *_, ids, best = (torch.cat(x) if i > 1 else x for i, x in enumerate(zip(*tile_decisions(maps, size), strict=True)))
    *_, expected, highest = (
        torch.cat(x) if i > 1 else x for i, x in enumerate(zip(*band_decisions(maps, size), strict=True))
    )
    assert ids.dtype == expected.dtype
    assert best.dtype == highest.dtype
    torch.testing.assert_close(best, highest, atol=atol, rtol=0)
    first, second = torch.cat([band for _, _, band, _ in maps.bands(size)], dim=1).topk(2, dim=0).values
    limit = maps.query.background.limit
    clear = (first > 1.0001 * second) & ((first - limit).abs() > 1e-5)
    assert clear.float().mean() > 0.95
    assert torch.equal(ids[clear], expected[clear])
    assert len(ids.unique()) > 2


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 30.0, 100.0])
def test_tiles_decide_as_bands_do(view: dict, scale: float, tile_bytes: int) -> None:
    maps = ClassMaps(some_maps(scale, **view), some_query())
    assert_same(maps)
    assert_same(maps, (31, 40))


def test_pixels_of_a_tile_may_differ_by_more_than_a_softmax_can_hold(tile_bytes: int) -> None:
    assert_same(ClassMaps(some_maps(3000.0), some_query()), atol=1e-3)


@pytest.mark.parametrize(("rule", "background"), [("none", 0), ("none", 3), ("threshold:0.3", 0), ("threshold:0.3", 3)])
@pytest.mark.parametrize("min_area", [0.0, 0.05])
def test_rules_and_small_areas_are_the_same_in_tiles(rule: str, background: int, min_area: float) -> None:
    settings = SegmenterSettings(min_area=min_area)
    maps = class_maps(some_maps(30.0), some_query(rule, background), settings)
    if min_area:
        assert maps.kept is not None
        assert 2 < maps.kept.sum() < len(maps.kept)
    assert_same(maps)


def test_the_first_of_equal_channels_wins(tile_bytes: int) -> None:
    maps = some_maps(30.0)
    twice = replace(maps, values=maps.values[:, :40].repeat_interleave(2, dim=1))
    for _, _, winner, _ in tile_winners(twice):
        assert (winner % 2 == 0).float().mean() > 0.999  # matrix products may round equal columns differently


@pytest.mark.parametrize(
    ("settings", "tiles"),
    [
        ({}, True),
        ({"background": "prompt:grey"}, True),
        ({"background": "threshold:0.3"}, True),
        ({"background": "contrast"}, True),
        ({"prior": 0.5}, True),
        ({"min_area": 0.1}, True),
        ({"background": "entropy:0.9"}, False),
        ({"refine": 2}, False),
        ({"refine": 2, "refine_on": "cosines"}, False),
    ],
    ids=str,
)
def test_every_setting_segments_as_by_bands(settings: dict, tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["red", "green", "blue;teal", *(f"{i} red" for i in range(40))]
    found = run(noise(90, 120), labels, **settings)
    assert by_tiles(found.evidence.probabilities()) is tiles
    monkeypatch.setattr("pacl.segmentation.scoring.by_tiles", lambda maps: False)
    other = run(noise(90, 120), labels, **settings)
    assert (found.index != other.index).mean() < 1e-3
    np.testing.assert_allclose(found.scores, other.scores, atol=1e-5)


def test_few_classes_go_by_bands() -> None:
    maps = some_maps(1.0)
    few = ClassMaps(replace(maps, values=maps.values[:, :4]), replace(some_query(), ids=(1, 2, 3, 4)))
    assert not by_tiles(few)
    assert [d[:2] for d in decisions(few)] == [d[:2] for d in band_decisions(few)]
