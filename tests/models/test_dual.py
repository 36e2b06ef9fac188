"""Two towers with projection heads: what they compute, and what is saved and refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.dual import (
    CONFIG,
    WEIGHTS,
    DualConfig,
    MLPHead,
    ProjectedImageTower,
    ProjectedTextTower,
    find_dual,
    projection_head,
    save_dual,
)
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers import hub
from pacl.models.towers.base import weights_checksum
from tests.tiny import fill_hub_cache, phi, save_tiny_clip, trained_head

D, SIZE = 12, 32
TEXTS = ["a dog", "two cats on a green sofa"]


def save_random(folder: Path, names: tuple[str, str], kind: str, *, tuned: bool = False) -> Backbone:
    """Save towers with random heads, and return the backbone that they make; ``tuned`` changes their weights first."""
    towers = load_backbone("+".join(names))
    checksums = [weights_checksum(tower.weights()) for tower in (towers.image, towers.text)]
    torch.manual_seed(0)
    image_head, text_head = (projection_head(kind, width, D) for width in (towers.width, towers.dim))
    if tuned:
        with torch.no_grad():
            for parameter in [*towers.image.parameters(), *towers.text.parameters()]:
                parameter.add_(0.01 * torch.randn_like(parameter))
    config = DualConfig(
        *names,
        *checksums,
        projection=kind,
        width=towers.width,
        text_width=towers.dim,
        dim=D,
        size=SIZE,
        mean=list(towers.mean),
        std=list(towers.std),
        logit_scale=20.0,
        image_tuned=tuned,
        text_tuned=tuned,
    )
    image = ProjectedImageTower(towers.image, image_head, SIZE)
    text = ProjectedTextTower(towers.text, text_head, D)
    save_dual(folder, config, image, text)
    return Backbone(image, text, "expected", shared=True, logit_scale=20.0)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A small convolutional tower of timm, and the text side of a small CLIP."""
    return "timm:test_efficientnet/random", save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module", params=["linear", "mlp"])
def saved(
    request: pytest.FixtureRequest, names: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Backbone]:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, save_random(folder, names, request.param)


def test_a_clips_positions_are_sampled_as_without_the_head(names: tuple[str, str]) -> None:
    tower = load_backbone(names[1]).image
    projected = ProjectedImageTower(tower, projection_head("linear", tower.width, D), SIZE)
    images = torch.rand(1, 3, 48, 56)
    centres, published = (projected(images, ["clip"], positions=how)[0][0] for how in ("centres", "published"))
    assert torch.equal(published, tower(images, ["clip"], positions="published")[0][0])
    assert not torch.equal(published, centres)


def test_the_mlp_head_is_the_recipes() -> None:
    head = MLPHead(5, 3, dropout=0.5).eval()
    x = torch.randn(2, 5)
    y = x @ head.projection.weight.T + head.projection.bias
    z = y + 0.5 * y * (1 + torch.erf(y / 2**0.5)) @ head.layer.weight.T + head.layer.bias
    expected = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), expected)


def test_kinds_of_heads() -> None:
    assert projection_head("linear", 5, 3).bias is None
    with pytest.raises(ArgumentError) as error:
        projection_head("cubic", 5, 3)
    assert error.value.argument == "projection"


def test_what_is_loaded_is_what_was_saved(saved: tuple[Path, Backbone]) -> None:
    folder, expected = saved
    loaded = load_backbone(f"local-dir:{folder}")
    assert loaded.shared
    assert (loaded.name, loaded.dim, loaded.size, loaded.logit_scale) == (f"local-dir:{folder}", D, SIZE, 20.0)
    assert loaded.checksum() == expected.checksum()
    images = loaded.normalize(torch.rand(2, 3, SIZE, SIZE))
    assert torch.equal(loaded.encode_image(images), expected.encode_image(images))
    assert torch.equal(loaded.encode_text(TEXTS), expected.encode_text(TEXTS))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_images_are_projected_means_of_tokens_and_texts_projected_embeddings(
    saved: tuple[Path, Backbone], names: tuple[str, str]
) -> None:
    loaded, towers = load_backbone(f"local-dir:{saved[0]}"), load_backbone("+".join(names))
    images = loaded.normalize(torch.rand(2, 3, SIZE, SIZE))
    tokens, _ = towers.patch_tokens(images)
    with torch.no_grad():
        of_images = F.normalize(loaded.image.head(tokens.mean(1)), dim=-1)
        of_texts = F.normalize(loaded.text.head(towers.encode_text(TEXTS)), dim=-1)
    torch.testing.assert_close(loaded.encode_image(images), of_images)
    torch.testing.assert_close(loaded.encode_text(TEXTS), of_texts)
    pooled, again = loaded.encode_image_and_tokens(images, "clip")
    assert torch.equal(pooled, loaded.encode_image(images))
    assert torch.equal(again, tokens)


def test_only_a_linear_head_is_a_projection(saved: tuple[Path, Backbone]) -> None:
    loaded = load_backbone(f"local-dir:{saved[0]}")
    if isinstance(loaded.image.head, MLPHead):
        assert loaded.projection is None
        with pytest.raises(ArgumentError) as error:
            load_model(f"local-dir:{saved[0]}")
        assert error.value.argument == "model"
        return
    images = loaded.normalize(torch.rand(2, 3, SIZE, SIZE))
    mean = loaded.patch_tokens(images)[0].mean(1)
    torch.testing.assert_close(F.normalize(mean @ loaded.projection, dim=-1), loaded.encode_image(images))
    untrained = load_model(f"local-dir:{saved[0]}")
    assert phi(untrained, images, TEXTS).shape == (2, 2)


def test_earlier_layers_leave_the_shared_space_as_it_is(tmp_path: Path, names: tuple[str, str]) -> None:
    save_random(tmp_path, names, "linear")
    plain, deep = (load_backbone(f"local-dir:{tmp_path}", layers=layers) for layers in (None, [0]))
    assert deep.width > plain.width
    images = plain.normalize(torch.rand(1, 3, SIZE, SIZE))
    torch.testing.assert_close(deep.encode_image(images), plain.encode_image(images))
    mean = deep.patch_tokens(images)[0].mean(1)
    torch.testing.assert_close(F.normalize(mean @ deep.projection, dim=-1), plain.encode_image(images))


def test_a_vit_of_open_clip_keeps_its_dense_variants(tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path / "clip")
    save_random(tmp_path / "dual", (name, name), "linear")
    loaded = load_backbone(f"local-dir:{tmp_path / 'dual'}")
    images = torch.randn(2, 3, SIZE, SIZE)
    pooled, tokens = loaded.encode_image_and_tokens(images, "value")
    assert torch.equal(pooled, loaded.encode_image(images))
    assert torch.equal(tokens, loaded.patch_tokens(images, "value")[0])


def test_a_head_on_it_is_saved_and_loaded(tmp_path: Path, names: tuple[str, str]) -> None:
    save_random(tmp_path / "dual", names, "linear")
    model = PACL.untrained(load_backbone(f"local-dir:{tmp_path / 'dual'}"), dense="clip")
    model.save_pretrained(tmp_path / "head")
    again = load_model(tmp_path / "head")
    images = torch.randn(1, 3, SIZE, SIZE)
    assert torch.equal(phi(again, images, TEXTS), phi(model, images, TEXTS))


def test_fine_tuned_towers_travel_with_the_heads(tmp_path: Path, names: tuple[str, str]) -> None:
    expected = save_random(tmp_path, names, "linear", tuned=True)
    loaded = load_backbone(f"local-dir:{tmp_path}")
    images = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(loaded.encode_image(images), expected.encode_image(images))
    assert torch.equal(loaded.encode_text(TEXTS), expected.encode_text(TEXTS))
    assert loaded.checksum() == expected.checksum()
    frozen = load_backbone("+".join(names))
    assert not torch.equal(loaded.patch_tokens(images)[0], frozen.patch_tokens(images)[0])


def test_frozen_towers_are_not_in_the_file(saved: tuple[Path, Backbone]) -> None:
    assert {key.partition(".")[0] for key in load_file(saved[0] / WEIGHTS)} == {"image_head", "text_head"}
    assert sorted(path.name for path in saved[0].iterdir()) == sorted([CONFIG, WEIGHTS])


def test_towers_with_other_weights_are_refused(tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path / "clip")
    save_random(tmp_path / "dual", (name, name), "linear")
    save_tiny_clip(tmp_path / "clip", seed=1)
    with pytest.raises(UserError, match="checksum"):
        load_backbone(f"local-dir:{tmp_path / 'dual'}")


# --- In a repository of the model hub ---


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("tuned", [False, True], ids=["frozen", "tuned"])
def test_a_dual_from_the_hub_is_the_one_of_its_folder(
    cache: Path, tmp_path: Path, names: tuple[str, str], tuned: bool
) -> None:
    save_random(tmp_path / "dual", names, "linear", tuned=tuned)
    expected = load_backbone(f"local-dir:{tmp_path / 'dual'}")
    fill_hub_cache(cache, "somebody/dual", tmp_path / "dual")
    shutil.rmtree(tmp_path / "dual")
    loaded = load_backbone("hf-hub:somebody/dual")
    assert (loaded.name, loaded.image_name, loaded.shared) == ("hf-hub:somebody/dual", "hf-hub:somebody/dual", True)
    assert loaded.checksum() == expected.checksum()
    images = loaded.normalize(torch.rand(2, 3, SIZE, SIZE))
    assert torch.equal(loaded.encode_image(images), expected.encode_image(images))
    assert torch.equal(loaded.encode_text(TEXTS), expected.encode_text(TEXTS))
    assert load_backbone("hf-hub:somebody/dual", layers=[0]).width > loaded.width


def test_a_head_on_a_dual_from_the_hub_is_saved_and_loaded(cache: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    """The head in a folder, and in a repository of its own."""
    save_random(tmp_path / "dual", names, "linear")
    fill_hub_cache(cache, "somebody/dual", tmp_path / "dual")
    untrained = load_model("hf-hub:somebody/dual")
    assert (untrained.config.backbone, untrained.config.trained) == ("hf-hub:somebody/dual", False)
    model = trained_head(untrained.clip, dense="clip")
    model.save_pretrained(tmp_path / "head")
    fill_hub_cache(cache, "somebody/head", tmp_path / "head")
    images = torch.randn(1, 3, SIZE, SIZE)
    for name in (str(tmp_path / "head"), "hf-hub:somebody/head"):
        again = load_model(name)
        assert again.config.trained
        assert torch.equal(phi(again, images, TEXTS), phi(model, images, TEXTS))


def test_the_hubs_client_is_asked_for_both_files(
    tmp_path: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = save_random(tmp_path, names, "linear")
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr("pacl.models.dual.hf_hub_download", download)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    assert load_backbone("hf-hub:somebody/dual").checksum() == expected.checksum()
    assert asked == [("somebody/dual", CONFIG), ("somebody/dual", WEIGHTS)]


@pytest.mark.parametrize("lost", [CONFIG, WEIGHTS])
def test_a_repository_that_is_not_whole_is_one_line(
    cache: Path, tmp_path: Path, names: tuple[str, str], lost: str
) -> None:
    save_random(tmp_path / "dual", names, "linear")
    (tmp_path / "dual" / lost).unlink()
    fill_hub_cache(cache, "somebody/dual", tmp_path / "dual")
    with pytest.raises(ArgumentError) as error:
        load_model("hf-hub:somebody/dual")
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)
    assert (WEIGHTS in str(error.value)) == (lost == WEIGHTS)


def test_a_clip_from_the_hub_is_no_dual(cache: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    assert find_dual(names[1]) is None
    fill_hub_cache(cache, "somebody/clip", Path(names[1].removeprefix("local-dir:")))
    assert find_dual("hf-hub:somebody/clip") is None


# --- Files that are refused ---


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"version": 2},
        {"dim": 0},
        {"dim": "12"},
        {"projection": "cubic"},
        {"logit_scale": 0},
        {"image": None},
        {"unknown": 1},
    ],
    ids=str,
)
def test_configurations_that_are_refused(tmp_path: Path, names: tuple[str, str], change: dict) -> None:
    save_random(tmp_path, names, "linear")
    values = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**values, **change}))
    with pytest.raises(UserError, match=CONFIG):
        load_backbone(f"local-dir:{tmp_path}")


def test_damaged_weights_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    save_random(tmp_path, names, "linear")
    weights = load_file(tmp_path / WEIGHTS)
    for damaged in (
        {key: value * torch.nan for key, value in weights.items()},
        {"image_head.weight": weights["image_head.weight"]},
        {key: value[:1] for key, value in weights.items()},
    ):
        save_file(damaged, tmp_path / WEIGHTS)
        with pytest.raises(UserError, match=WEIGHTS):
            load_backbone(f"local-dir:{tmp_path}")
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(UserError, match=WEIGHTS):
        load_backbone(f"local-dir:{tmp_path}")
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(UserError, match=WEIGHTS):
        load_backbone(f"local-dir:{tmp_path}")


def test_a_configuration_comes_back_as_it_was() -> None:
    config = DualConfig("i", "t", "0", "1", "mlp", 4, 5, 6, 32, [0.5] * 3, [0.5] * 3, 14.3, text_tuned=True)
    assert DualConfig.from_json(config.to_json(), "x") == config
    assert dataclasses.replace(config, dim=7) != config


@pytest.mark.parametrize("change", [{"width": 2**31}, {"dim": 2**31}, {"mean": ["a", 0.5, 0.5]}], ids=str)
def test_sizes_and_means_that_no_tower_has_are_refused(
    names: tuple[str, str], tmp_path: Path, change: dict[str, object]
) -> None:
    save_random(tmp_path, names, "linear")
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(UserError):
        load_backbone(f"local-dir:{tmp_path}")
