"""What a name loads, from folders and the hub; names that do not work say what would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from pacl.errors import ArgumentError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.config import CONFIG
from pacl.models.head import shipped_folder
from pacl.models.loading import load_model
from pacl.models.towers import hub
from pacl.models.towers.base import weights_checksum
from pacl.models.towers.open_clip_loading import bundled_folder
from tests.tiny import save_tiny_clip


def test_checksum_tells_weights_apart(tmp_path: Path, clip: Backbone) -> None:
    same = load_backbone(save_tiny_clip(tmp_path / "same"))
    other = load_backbone(save_tiny_clip(tmp_path / "other", seed=1))
    assert clip.checksum() == same.checksum() != other.checksum()


def test_quick_gelu_follows_the_configuration_and_changes_the_output(tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path, quick_gelu=True)
    quick, plain = load_backbone(name), load_backbone(name, quick_gelu=False)
    assert (quick.quick_gelu, plain.quick_gelu) == (True, False)
    image = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(quick.patch_tokens(image)[0], plain.patch_tokens(image)[0])


def test_a_random_builtin_is_the_same_each_time_and_leaves_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first = load_backbone("open_clip:ViT-B-32-quickgelu/random")
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.quick_gelu
    assert first.checksum() == load_backbone("open_clip:ViT-B-32-quickgelu/random").checksum()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nonsense", "local-dir:PATH"),
        ("open_clip:ViT-B-16", "local-dir:PATH"),
        ("open_clip:ViT-B-17/openai", "ViT-B-17"),
        ("open_clip:ViT-B-16/nobody", "openai"),
        ("local-dir:/nowhere", "no such folder"),
        ("open_clip:coca_ViT-B-32/random", "CoCa"),
    ],
)
def test_names_that_do_not_work_say_what_would(name: str, expected: str) -> None:
    with pytest.raises(ArgumentError) as error:
        load_backbone(name)
    assert error.value.argument == "model"
    assert expected in error.value.reason


def test_a_broken_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ArgumentError) as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert error.value.argument == "model"
    save_tiny_clip(tmp_path)
    good = json.loads((tmp_path / "open_clip_config.json").read_text())
    for wrong in (
        {"vocabulary": 5},
        {"contrast": [1]},
        {"token_ids": [3, 1]},
        {"token_ids": "x"},
        {"preprocess_cfg": {"std": [0, 0, 0]}},
        {"model_cfg": {**good["model_cfg"], "text_cfg": {**good["model_cfg"]["text_cfg"], "layers": 2**63}}},
    ):
        (tmp_path / "open_clip_config.json").write_text(json.dumps({**good, **wrong}))
        with pytest.raises(ArgumentError) as error:
            load_backbone(f"local-dir:{tmp_path}")
        assert error.value.argument == "model"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(good))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"short")
    with pytest.raises(ArgumentError) as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)


def test_without_network_missing_weights_are_one_line_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("open_clip:ViT-B-16/openai", "hf-hub:nobody/nothing"):
        with pytest.raises(ArgumentError) as error:
            load_backbone(name)
        assert error.value.argument == "model"


def test_a_local_clip_asks_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: pytest.fail("asked whether the hub is there"))
    load_backbone(save_tiny_clip(tmp_path))


def test_a_compact_clip_from_the_hub_keeps_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = bundled_folder() / "clip"
    monkeypatch.setattr(hub, "reachable", lambda: False)
    extra = json.loads((bundled / "open_clip_config.json").read_text())
    monkeypatch.setattr("open_clip.factory._get_hf_config", lambda *_, **__: json.loads(json.dumps(extra)))
    weights = str(bundled / "open_clip_model.safetensors")
    monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", lambda *_, **__: weights)
    clip = load_backbone("hf-hub:somebody/scenes")
    assert clip.vocabulary == frozenset(extra["vocabulary"])
    assert clip.contrast == tuple(extra["contrast"])
    assert clip.checksum() == load_backbone("bundled").checksum()
    words = {word for prompt in extra["contrast"] for word in prompt.split()}
    assert words <= clip.vocabulary


def test_the_checksum_of_one_clip_is_that_of_all_its_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    clip = load_backbone(save_tiny_clip(tmp_path))
    assert clip.checksum() == weights_checksum(load_file(tmp_path / "open_clip_model.safetensors"))
    bundled = json.loads((bundled_folder() / "config.json").read_text())
    assert load_backbone("bundled").checksum() == bundled["checksum"]


def test_the_name_of_a_head_leads_to_its_backbone(tmp_path: Path) -> None:
    model = load_model("photos")
    (tmp_path / "mine").mkdir()
    shutil.copy(shipped_folder("photos") / CONFIG, tmp_path / "mine")
    for name in ("photos", str(tmp_path / "mine")):
        with pytest.raises(ArgumentError) as error:
            load_backbone(name)
        assert error.value.argument == "model"
        assert model.clip.name in error.value.reason
        assert "load_model" in error.value.reason
