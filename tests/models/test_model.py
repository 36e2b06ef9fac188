"""PACL: its starts, what is saved, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.compatibility import compatibility
from pacl.models.config import WEIGHTS
from pacl.models.head import HeadConfig
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.dense import VARIANTS
from tests.tiny import phi, save_tiny_clip, trained_head


@pytest.mark.parametrize("dense", VARIANTS)
def test_the_clip_start_is_the_training_free_method(clip: Backbone, dense: str) -> None:
    model = PACL.untrained(clip, dense=dense, start="clip")
    images = torch.randn(2, 3, 40, 56)
    ours, _ = model.encode_patches(images)
    tokens, _ = clip.patch_tokens(images, dense)
    assert clip.projection is not None
    torch.testing.assert_close(ours, F.normalize(tokens @ clip.projection, dim=-1), rtol=1e-5, atol=1e-6)


def test_only_the_head_trains_and_is_saved(clip: Backbone) -> None:
    model = PACL.untrained(clip, text="linear", learn_temperature=True)
    model.train()
    assert not model.clip.training
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == set(model.head_state())
    assert {name.split(".")[0] for name in names} == {
        "embedder",
        "text_embedder",
        "log_temperature",
        "log_logit_scale",
    }
    fixed = PACL.untrained(clip)
    assert not fixed.log_temperature.requires_grad


@pytest.mark.parametrize("options", [{}, {"start": "paper", "temperature": math.inf}, {"text": "linear", "hidden": 7}])
def test_saving_and_loading_is_bit_equal(clip: Backbone, tmp_path: Path, options: dict[str, Any]) -> None:
    clip = load_backbone(clip.name)  # texts not encoded yet: in another batch their last bits may differ
    model = trained_head(clip, **options)
    model.save_pretrained(tmp_path / "head")
    again = PACL.from_pretrained(tmp_path / "head")
    assert again.config == model.config
    for key, value in model.head_state().items():
        assert torch.equal(value, again.head_state()[key]), key
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(model.encode_patches(images)[0], again.encode_patches(images)[0])
    assert torch.equal(phi(model, images, ["a dog"]), phi(again, images, ["a dog"]))
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    json.loads((tmp_path / "head" / "config.json").read_text(), parse_constant=pytest.fail)  # strict JSON


@pytest.mark.parametrize("learned", [False, True])
@torch.no_grad()
def test_a_changed_configuration_acts_wherever_it_is_read(clip: Backbone, tmp_path: Path, learned: bool) -> None:
    """A fixed temperature is that of the configuration; what is learned is a weight, which the start leaves alone."""
    model = trained_head(clip, learn_temperature=learned, temperature=0.1)
    images, scale, temperature = torch.randn(1, 3, 32, 32), float(model.logit_scale), float(model.temperature)
    first = phi(model, images, ["a dog"])
    model.config.temperature, model.config.logit_scale = 0.5, 99.0
    model.save_pretrained(tmp_path / "head")
    for each in (model, PACL.from_pretrained(tmp_path / "head")):
        assert float(each.temperature) == pytest.approx(temperature if learned else 0.5)
        assert torch.equal(phi(each, images, ["a dog"]), first) is learned
        patches, _ = each.encode_patches(images)
        expected = compatibility(patches, each.encode_text(["a dog"]), temperature=each.temperature, cosine=True)
        torch.testing.assert_close(phi(each, images, ["a dog"]), expected)
        assert float(each.logit_scale) == scale


def test_a_head_for_vit_b16_is_about_four_megabytes(tmp_path: Path) -> None:
    PACL.untrained(load_backbone("open_clip:ViT-B-16-quickgelu/random")).save_pretrained(tmp_path)
    assert 4_200_000 < (tmp_path / "model.safetensors").stat().st_size < 4_300_000


def test_heads_for_other_weights_or_activations_are_refused(clip: Backbone, tmp_path: Path) -> None:
    trained_head(clip).save_pretrained(tmp_path / "head")
    other = load_backbone(save_tiny_clip(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="checksum"):
        PACL.from_pretrained(tmp_path / "head", clip=other)
    quick = load_backbone(clip.name, quick_gelu=True)
    with pytest.raises(UserError, match="quick_gelu"):
        PACL.from_pretrained(tmp_path / "head", clip=quick)


@pytest.mark.parametrize("changed", [{"mean": [0.5, 0.5, 0.5]}, {"std": [0.25, 0.25, 0.25]}, {"layers": [0]}])
def test_heads_for_other_images_or_layers_are_refused(clip: Backbone, tmp_path: Path, changed: dict[str, Any]) -> None:
    trained_head(clip).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(UserError, match=next(iter(changed))):
        PACL.from_pretrained(tmp_path, clip=clip)


def test_weights_are_hashed_when_a_head_is_saved(tmp_path: Path) -> None:
    clip = load_backbone(save_tiny_clip(tmp_path / "clip"))
    model = PACL.untrained(clip)
    assert (model.config.checksum, clip._checksum) == ("", None)
    model.save_pretrained(tmp_path / "head")
    assert model.config.checksum == clip.checksum()


def test_broken_heads_are_one_line(clip: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        PACL.from_pretrained(tmp_path / "nowhere")
    assert error.value.argument == "model"
    trained_head(clip).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden": 9}))
    with pytest.raises(UserError, match=WEIGHTS):
        PACL.from_pretrained(tmp_path)
    for wrong in (
        *({"width": "a"}, {"hidden": -1}, {"backbone": None}, {"contrast": 5}, {"logit_scale": "x"}),
        *({"scales": 2.0}, {"scales": ["a"]}, {"presence": -1.0}),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **wrong}))
        with pytest.raises(UserError, match=next(iter(wrong))):
            PACL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden": 10**12}))
    with pytest.raises(UserError, match=r"hidden 1000000000000 needs .* GB"):
        PACL.from_pretrained(tmp_path)
    for name in ("hidden", "logit_scale", "width"):
        (tmp_path / "config.json").write_text(json.dumps({key: config[key] for key in config if key != name}))
        with pytest.raises(UserError, match=name):
            PACL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps(config), encoding="utf-8")  # as Windows writes it
    state = load_file(tmp_path / WEIGHTS)
    for kind in (torch.int32, torch.complex64):
        try:
            save_file({name: value.to(kind) for name, value in state.items()}, tmp_path / WEIGHTS)
        except KeyError:
            assert kind.is_complex  # older versions of safetensors cannot write it
            continue
        with pytest.raises(UserError, match=WEIGHTS):
            PACL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "version": 2}))
    with pytest.raises(UserError, match="version"):
        PACL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match=WEIGHTS):
        PACL.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=WEIGHTS):
        PACL.from_pretrained(tmp_path)


def test_saving_where_one_cannot(clip: Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        PACL.untrained(clip).save_pretrained(tmp_path / "file")


@pytest.mark.parametrize(
    "options",
    [
        {"start": "cold"},
        {"text": "deep"},
        {"hidden": 0},
        *({"temperature": 0.0}, {"temperature": math.nan}, {"temperature": math.inf, "learn_temperature": True}),
        *({"logit_scale": 0.0}, {"logit_scale": -5.0}),
        *({"scales": []}, {"scales": [1.0, 0.0]}, {"scales": [math.inf]}),
    ],
)
def test_settings_that_do_not_work(clip: Backbone, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError) as error:
        PACL.untrained(clip, **options)
    assert error.value.argument == next(iter(options))


def test_an_unknown_dense_variant_is_refused(clip: Backbone) -> None:
    with pytest.raises(ArgumentError) as error:
        PACL.untrained(clip, dense="best")
    assert error.value.argument == "dense"


def test_prompts_are_averaged_over_templates(clip: Backbone) -> None:
    model = PACL.untrained(clip)
    templates = ("a photo of a {}.", "{}")
    embedded = model.encode_prompts(["dog", "cat"], templates)
    by_hand = clip.encode_text(["a photo of a cat.", "cat"]).mean(dim=0)
    torch.testing.assert_close(embedded[1], F.normalize(by_hand, dim=0), rtol=1e-4, atol=1e-5)
    assert torch.equal(embedded, model.encode_prompts(["dog", "cat"], templates))


def test_a_learned_text_layer_starts_as_the_identity_and_trains(clip: Backbone) -> None:
    model = PACL.untrained(clip, text="linear")
    torch.testing.assert_close(model.encode_text(["a dog"]), clip.encode_text(["a dog"]))
    model.encode_text(["a dog"]).sum().backward()
    assert model.text_embedder.weight.grad is not None  # type: ignore[union-attr]


def test_pushing_to_the_hub_uploads_the_three_files(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path: Path, **_: Any) -> str:
            uploaded.extend(sorted(path.name for path in Path(folder_path).iterdir()))
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    PACL.untrained(clip).push_to_hub("somebody/head")
    assert uploaded == ["README.md", "config.json", "model.safetensors"]


def test_config_survives_json() -> None:
    config = HeadConfig(
        **{"backbone": "b", "checksum": "c", "quick_gelu": True, "width": 1, "dim": 2, "hidden": 3, "size": 4},
        **{"mean": [0.1], "std": [0.2], "logit_scale": 5.0, "temperature": math.inf, "contrast": ["a thing"]},
    )
    config.vocabulary = ["dog", "jack-o'-lantern"]
    assert HeadConfig.from_json(config.to_json(), "here") == config


def test_numbers_of_numpy_are_saved_as_pythons(clip: Backbone, tmp_path: Path) -> None:
    model = PACL.untrained(clip, temperature=np.float32(0.25), scales=[np.float64(1), np.float32(2)], cosine=np.True_)
    model.save_pretrained(tmp_path)
    again = PACL.from_pretrained(tmp_path, clip=clip).config
    assert (again.temperature, again.scales, again.cosine) == (0.25, [1.0, 2.0], True)
    assert again == model.config


def test_logit_scale_is_clamped(clip: Backbone) -> None:
    model = PACL.untrained(clip, logit_scale=500.0)
    assert float(model.logit_scale.detach()) == pytest.approx(100.0)


def test_a_head_with_values_that_are_no_numbers_is_refused(clip: Backbone, tmp_path: Path) -> None:
    model = trained_head(clip)
    with torch.no_grad():
        model.embedder.skip.bias[0] = math.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=WEIGHTS):
        PACL.from_pretrained(tmp_path)


# --- the conse start --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos() -> PACL:
    return PACL.from_pretrained("photos")


def test_the_photo_model_finds_things_in_its_own_words(photos: PACL) -> None:
    said = photos.encode_text(["a dog", "a puppy", "a car"])
    assert said.shape == (3, photos.config.dim + photos.config.space)
    torch.testing.assert_close(said.norm(dim=-1), torch.ones(3))
    assert said[0] @ said[1] > said[0] @ said[2]


def test_a_conse_head_comes_back_bit_for_bit(photos: PACL, tmp_path: Path) -> None:
    photos.save_pretrained(tmp_path)
    again = PACL.from_pretrained(tmp_path, clip=photos.clip)
    tokens = torch.randn(1, 9, photos.clip.width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.patch_vectors(tokens), photos.patch_vectors(tokens))
    assert torch.equal(again.encode_text(["a dog"]), photos.encode_text(["a dog"]))


def test_training_leaves_what_the_classifier_says(photos: PACL) -> None:
    trained = {name for name, value in photos.named_parameters() if value.requires_grad}
    assert trained
    assert not any("first" in name for name in trained)
    tokens = torch.randn(2, 4, photos.clip.width)
    half = photos.embedder(tokens)[..., : photos.config.dim]
    assert torch.equal(half, photos.embedder.first(tokens) * photos.config.conse_share**0.5)


def test_without_training_conse_stands_alone(photos: PACL) -> None:
    model = PACL.untrained(photos.clip, dense="clip", start="conse", conse_share=1.0)
    assert not [p for part in (model.embedder, model.text_embedder) for p in part.parameters()]
    assert model.encode_text(["a dog"]).shape == (1, photos.config.dim)


@pytest.mark.parametrize("settings", [{"conse_share": 1.5}, {"smoothing": -1.0}, {"start": "best"}])
def test_settings_of_the_start_that_make_no_sense(photos: PACL, settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError) as error:
        PACL.untrained(photos.clip, **{"dense": "clip", "start": "conse", **settings})
    assert error.value.argument == next(iter(settings))


def test_conse_needs_a_classifier(clip: Backbone) -> None:
    with pytest.raises(ArgumentError) as error:
        PACL.untrained(clip, start="conse")
    assert error.value.argument == "start"


def test_a_notebook_shows_models_in_a_line(tiny_clip: str) -> None:
    model = load_model(tiny_clip)
    for shown in (repr(model), repr(model.clip)):
        assert "\n" not in shown
        assert len(shown) < 500
        assert tiny_clip in shown
        assert f"patches of {model.clip.patch} pixels" in shown
    assert f"dense variant {model.config.dense}" in repr(model)
    assert "untrained head (clip)" in repr(model)


def test_the_checksum_of_a_head_follows_its_weights(tiny_clip: str) -> None:
    model = PACL.untrained(load_backbone(tiny_clip))
    first = model.head_checksum()
    assert model.head_checksum() == first
    with torch.no_grad():
        model.log_logit_scale.add_(1)
    second = model.head_checksum()
    assert second != first
    optimizer = torch.optim.AdamW(model.embedder.parameters(), lr=0.1)
    for parameter in model.embedder.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert model.head_checksum() not in (first, second)
