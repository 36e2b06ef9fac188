"""How work and memory grow, by counting operations and tensors, never by time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from eval.speed.floors import multiply_adds
from eval.speed.phi import products
from pacl.models import compatibility as compatibility_module
from pacl.models.compatibility import compatibility
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.prompts import Label
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import noise
from tests.tensors import Largest


def of_batch(_: torch.Size, left: torch.Size, right: torch.Size, **kwargs: object) -> int:
    return 2 * left.numel() * right[2]


def multiply_adds_of(run: Callable[[], object]) -> int:
    in_place = {torch.ops.aten.baddbmm_: of_batch}  # which torch counts only out of place
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        run()
    return counter.get_total_flops() // 2


def largest_of(run: Callable[[], object]) -> int:
    with Largest() as mode:
        run()
    return mode.elements


def phi_step(B: int, T: int, P: int, D: int, impl: str) -> Callable[[], None]:
    patches = normalize(torch.randn(B, P, D), dim=-1).requires_grad_()
    texts = normalize(torch.randn(T, D), dim=-1)
    return lambda: compatibility(patches, texts, temperature=0.1, impl=impl).sum().backward()


@pytest.mark.parametrize("shape", [(4, 32, 6, 40), (4, 3, 20, 8), (3, 500, 16, 8), (2, 5, 1, 7)])
@pytest.mark.parametrize("backward", [False, True])
def test_the_floor_is_what_the_bare_products_do(shape: tuple[int, int, int, int], backward: bool) -> None:
    B, T, P, D = shape
    counted = multiply_adds_of(lambda: products(torch.randn(B, P, D), torch.randn(T, D), backward))
    assert counted == multiply_adds(B, T, P, D, backward)


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("shape", [(4, 64, 6, 40), (4, 3, 20, 8)])
def test_no_implementation_does_less_than_the_floor(impl: str, shape: tuple[int, int, int, int]) -> None:
    """And none does three times as much."""
    floor = multiply_adds(*shape)
    assert floor <= multiply_adds_of(phi_step(*shape, impl)) < 3 * floor


@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_work_of_phi_is_linear_in_images_and_in_texts(impl: str) -> None:
    base = multiply_adds_of(phi_step(4, 64, 6, 40, impl))
    assert multiply_adds_of(phi_step(8, 64, 6, 40, impl)) == 2 * base
    assert multiply_adds_of(phi_step(4, 128, 6, 40, impl)) <= 2 * base


def test_memory_of_phi_does_not_grow_with_images_times_texts_times_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for phi itself: chunks are of a fixed size, and B T is smaller than that here."""
    monkeypatch.setattr(compatibility_module, "CPU_CHUNK_BYTES", 4 * 4000)
    sizes = [(8, 16, 20, 4), (8, 32, 20, 4), (8, 64, 20, 4)]
    chunked, reference = ([largest_of(phi_step(*size, impl)) for size in sizes] for impl in ("chunked", "reference"))
    assert max(chunked) <= 4000
    assert reference == [B * T * P for B, T, P, _ in sizes]


@pytest.fixture(scope="module")
def model(tiny_clip: str) -> PACL:
    return load_model(tiny_clip, device="cpu")


def segmenter_of(model: PACL, **settings: Any) -> Segmenter:
    return Segmenter(model, SegmenterSettings(precision="fp32", background="none", **settings))


def labels(count: int) -> list[Label]:
    return [Label(f"thing {i}", (f"thing {i}",)) for i in range(count)]


def test_work_of_predict_is_linear_in_classes(model: PACL) -> None:
    segmenter = segmenter_of(model)
    segmenter.set_image(noise(40, 60))
    counted = []
    for count in (4, 8, 16):
        query = segmenter.encode_query(labels(count))
        counted.append(multiply_adds_of(lambda query=query: segmenter.predict(query)))
    assert counted[2] - counted[1] == 2 * (counted[1] - counted[0]) > 0


def test_work_of_a_batch_is_that_of_its_images(model: PACL) -> None:
    segmenter = segmenter_of(model, window_batch=4)
    query = segmenter.encode_query(labels(3))
    one, four = (multiply_adds_of(lambda n=n: segmenter.predict_batch([noise(32, 32)] * n, query)) for n in (1, 4))
    assert four == 4 * one > 0


def test_work_of_the_tower_does_not_grow_with_the_pixels_of_a_photo(model: PACL) -> None:
    """A photo is resized for the tower: only its short side after that counts."""
    segmenter = segmenter_of(model, size=32)
    small, large = (multiply_adds_of(lambda n=n: segmenter.set_image(noise(n, n))) for n in (64, 512))
    assert small == large > 0


def test_memory_of_predict_does_not_grow_with_pixels_times_classes(
    model: PACL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps of all classes exist for a band of rows at a time."""
    monkeypatch.setattr("pacl.segmentation.patch_maps.BAND_BYTES", 4 * 40_000)
    monkeypatch.setattr("pacl.segmentation.tiles.TILE_BYTES", 4 * 40_000)
    monkeypatch.setattr(PACL, "part_checksum", lambda self, part: "")  # reads weights, as large as they are
    monkeypatch.setattr("pacl.models.backbone.Backbone.fingerprint", "")
    segmenter = segmenter_of(model, size=32)
    for side, count in ((128, 16), (256, 16), (256, 64), (512, 64)):
        segmenter.set_image(np.zeros((side, side, 3), np.uint8))
        query = segmenter.encode_query(labels(count))
        assert side * side * count > 4 * 40_000
        assert largest_of(lambda query=query: segmenter.predict(query)) <= 40_000
