"""What ``--model`` may name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pacl.errors import ArgumentError, UserError
from pacl.models import loading
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers import hub
from tests.tiny import save_tiny_clip, trained_head


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")))


def test_load_model_takes_whatever_model_may_name(clip: Backbone, tmp_path: Path) -> None:
    trained_head(clip, dense="sclip").save_pretrained(tmp_path / "head")
    assert load_model(str(tmp_path / "head")).config.dense == "sclip"
    folder = clip.name.removeprefix("local-dir:")
    for spec in (folder, clip.name):
        model = load_model(spec)
        assert (model.config.dense, model.config.trained) == ("naclip", False)
    assert load_model(folder, dense="clearclip").config.dense == "clearclip"
    with pytest.raises(UserError, match="not a model name"):
        load_model("nowhere")


def test_a_training_free_clip_gets_the_protocols_size(clip: Backbone) -> None:
    assert load_model("open_clip:ViT-B-32/random").config.size == 336
    assert load_model(clip.name).config.size == 32


def test_another_dense_variant_than_trained_on_warns(
    clip: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_head(clip, dense="value").save_pretrained(tmp_path)
    assert load_model(str(tmp_path), dense="naclip").config.dense == "naclip"
    assert "trained on value tokens" in capsys.readouterr().err
    load_model(str(tmp_path), dense="value")
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="can do clip, value"):
        load_model(str(tmp_path), dense="best")


def test_a_head_from_the_hub(clip: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained_head(clip)
    model.save_pretrained(tmp_path)
    for module in ("pacl.models.head", "pacl.models.loading"):
        monkeypatch.setattr(f"{module}.hf_hub_download", lambda repo, file, **_: str(tmp_path / file))
    monkeypatch.setattr(hub, "reachable", lambda: False)
    for name in ("somebody/head", "hf-hub:somebody/head"):
        again = load_model(name) if name.startswith("hf-hub:") else PACL.from_pretrained(name)
        assert torch.equal(again.log_logit_scale, model.log_logit_scale)


def test_a_clip_folder_with_another_librarys_config_is_a_clip(clip: Backbone) -> None:
    folder = Path(clip.name.removeprefix("local-dir:"))
    (folder / "config.json").write_text('{"model_type": "clip"}')
    assert not load_model(str(folder)).config.trained


def test_auto_takes_openais_clip_where_there_is_one(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "reachable", lambda: True)
    monkeypatch.setattr(
        loading, "load_backbone", lambda name: clip if name == loading.OPENAI_B16 else pytest.fail(name)
    )
    model = load_model("auto")
    assert model.clip is clip
    assert (model.config.dense, model.config.start, model.config.trained) == ("naclip", "clip", False)
    with pytest.raises(UserError, match="can do clip, value"):
        load_model("auto", dense="best")


def test_auto_takes_the_photo_model_where_there_is_no_clip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "reachable", lambda: False)
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_: None)
    model = load_model("auto")
    assert model.clip.name == "timm:tf_efficientnet_lite2.in1k+static:words"
    assert (model.config.start, model.config.trained) == ("conse", True)
    assert "photo model" in capsys.readouterr().err


def test_auto_without_any_says_what_the_bundled_model_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str, **_: object) -> Backbone:
        if name == "bundled":
            return load_backbone(name)
        raise UserError("no weights")

    monkeypatch.setattr(loading, "load_backbone", missing)
    monkeypatch.setattr("pacl.models.model.load_backbone", missing)
    model = load_model("auto")
    assert model.clip.name == "bundled"
    warning = capsys.readouterr().err
    assert warning.startswith("pacl: warning: no CLIP weights")
    assert "drawn scenes" in warning


@pytest.mark.parametrize("name", ["~nobody_of_this_name/x", "a" * 300])
def test_a_name_that_is_no_path_is_one_line(name: str) -> None:
    with pytest.raises(ArgumentError) as error:
        loading.load_model(name)
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)
