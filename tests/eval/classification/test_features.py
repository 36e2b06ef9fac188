"""Features and their cache, which is used for the same images and the same model only."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from eval.classification import features as image_features
from eval.classification.features import (
    Loading,
    cached_features,
    class_embeddings,
    load_batches,
    preprocessing,
)
from eval.classification.image_sets import open_image_set
from pacl.errors import UserError
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from tests.tiny import configure_clip, save_tiny_clip, trained_head

LOADING = Loading(batch=4, workers=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat/1", "cat/2", "cat/3", "dog/1", "dog/2", "owl/1"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def model(tiny_clip: str) -> PACL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained_head(load_backbone(tiny_clip)).eval()


def test_batches_are_preprocessed_as_for_clip_and_in_order(photos, model):
    from open_clip import image_transform

    found = list(load_batches(open_image_set("custom", photos), model, Loading(4, 0)))
    assert [len(labels) for _, labels in found] == [4, 2]
    assert torch.cat([labels for _, labels in found]).tolist() == [0, 0, 0, 1, 1, 2]
    squares = torch.cat([squares for squares, _ in found])
    assert squares.shape == (6, 3, 32, 32)
    transform = image_transform(32, is_train=False, mean=model.clip.mean, std=model.clip.std)
    reference = torch.stack([transform(Image.open(path)) for path in sorted(photos.rglob("*.png"))])
    assert torch.equal(squares, reference)


def test_workers_change_nothing(photos, model):
    images = open_image_set("custom", photos)
    alone, shared = (torch.cat([x for x, _ in load_batches(images, model, Loading(2, workers))]) for workers in (0, 2))
    assert torch.equal(alone, shared)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_an_error(photos, model, workers):
    (photos / "dog/1.png").write_bytes(b"not a picture")
    with pytest.raises(UserError) as told:
        list(load_batches(open_image_set("custom", photos), model, Loading(4, workers)))
    assert "dog/1.png" in str(told.value)
    assert "\n" not in str(told.value)


def test_class_texts_are_the_models_prompts_and_open_clips_classifier(model, monkeypatch):
    from open_clip import build_zero_shot_classifier

    monkeypatch.setattr(image_features, "TEXT_BATCH", 5)  # of two classes, then of one
    names, templates = ["cat", "dog", "owl"], ["a photo of a {}.", "a drawing of the {}."]
    ours, of_head = class_embeddings(model, names, templates)
    theirs = build_zero_shot_classifier(model.clip.text.clip, model.clip.text.tokenizer, names, templates)
    assert torch.allclose(ours, theirs.T, atol=1e-5)
    assert torch.allclose(of_head, model.encode_prompts(names, templates), atol=1e-6)


def test_preprocessing_is_that_of_the_clip(model):
    wide = Image.new("RGB", (64, 32))
    wide.paste((255, 255, 255), (0, 0, 8, 32))  # at the left end, outside the centre crop
    assert preprocessing(model)(wide).max() < 0
    model.clip.preprocessing["resize_mode"] = "squash"
    assert preprocessing(model)(wide).max() > 0


def test_features_are_cached_per_images_and_weights(photos, model, tiny_clip, tmp_path, monkeypatch):
    images = open_image_set("custom", photos)
    folder = tmp_path / "kept"
    first = cached_features(model, images, folder, LOADING)
    assert {kind: tuple(value.shape) for kind, value in first.items()} == {"pooled": (6, 32), "patches": (6, 16)}

    passed = []
    original = image_features.load_batches
    monkeypatch.setattr(image_features, "load_batches", lambda *args: passed.append(1) or original(*args))
    second = cached_features(model, images, folder, LOADING)
    assert not passed
    assert all(torch.equal(first[kind], second[kind]) for kind in first)

    cached_features(load_model(tiny_clip), images, folder, LOADING)  # another head
    cached_features(model, images.subset(np.arange(3)), folder, LOADING)  # other images
    cached_features(model, images, folder, Loading(4, 0, "bf16"))
    assert len(passed) == 3
    assert len(list(folder.iterdir())) == 4

    for path in folder.iterdir():
        path.write_bytes(b"damaged")
    third = cached_features(model, images, folder, LOADING)
    assert all(torch.equal(first[kind], third[kind]) for kind in first)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_cache_with_wrong_content_is_computed_again(photos, model, tmp_path, value):
    images, folder = open_image_set("custom", photos), tmp_path / "kept"
    first = cached_features(model, images, folder, LOADING)
    (path,) = folder.iterdir()
    with safe_open(path, framework="pt") as file:
        stamp = file.metadata()
    save_file({kind: torch.full_like(each, value) for kind, each in first.items()}, path, metadata=stamp)
    again = cached_features(model, images, folder, LOADING)
    assert all(torch.equal(first[kind], again[kind]) for kind in first)


def test_features_that_are_not_finite_are_refused(photos, model, tmp_path, monkeypatch):
    broken = {kind: torch.full((6, 4), math.nan) for kind in image_features.KINDS}
    monkeypatch.setattr(image_features, "features", lambda *_: broken)
    with pytest.raises(UserError, match="finite"):
        cached_features(model, open_image_set("custom", photos), tmp_path / "kept", Loading(6, 0))
    assert not (tmp_path / "kept").exists()


def test_a_clip_with_other_settings_has_features_of_its_own(photos, tmp_path):
    images, kept = open_image_set("custom", photos), tmp_path / "kept"
    name = save_tiny_clip(tmp_path / "clip")
    before = cached_features(load_model(name), images, kept, LOADING)
    for changes in ({"quick_gelu": True}, {"preprocess": {"mean": [0.1, 0.2, 0.3]}}):
        model = load_model(configure_clip(name, **changes))
        found = cached_features(model, images, kept, LOADING)
        expected = cached_features(model, images, tmp_path / "fresh" / str(len(changes)), LOADING)
        for kind in before:
            assert not torch.equal(found[kind], before[kind])
            assert torch.equal(found[kind], expected[kind])
        before = found


def test_auto_shares_the_features_of_the_precision_that_it_stands_for(photos, model, tmp_path):
    images = open_image_set("custom", photos)
    for precision in ("fp32", "auto"):
        cached_features(model, images, tmp_path / "kept", Loading(4, 0, precision))
    assert len(list((tmp_path / "kept").iterdir())) == 1
