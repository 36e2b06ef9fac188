"""Models by name."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pacl.cli import model as cli_model
from pacl.errors import ArgumentError, FallbackModel, OtherDenseVariant, UserError
from pacl.models import loading
from pacl.models.backbone import OPENAI_B16, Backbone, load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers import hub
from tests.tiny import trained_head


def test_models_by_name(clip: Backbone, tmp_path: Path) -> None:
    trained_head(clip, dense="sclip").save_pretrained(tmp_path / "head")
    assert load_model(str(tmp_path / "head")).config.dense == "sclip"
    folder = clip.name.removeprefix("local-dir:")
    for spec in (folder, clip.name):
        model = load_model(spec)
        assert (model.config.dense, model.config.trained) == ("naclip", False)
    assert load_model(folder, dense="clearclip").config.dense == "clearclip"
    for name in ("nowhere", "no/such/folder", "photo", "ViT-B-16", "open_clip:vit-b-16/openai", ""):
        with pytest.raises(ArgumentError) as error:
            load_model(name)
        assert error.value.argument == "model"


@pytest.mark.parametrize("name", [None, 3, ["photos"]], ids=str)
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        load_model(name)
    assert error.value.argument == "model"


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(loading, "_load_named", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ArgumentError) as error:
        load_model("photos", device=device)
    assert error.value.argument == "device"


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_training_that_has_not_ended_is_named(clip: Backbone, tmp_path: Path, name: str) -> None:
    """There is a best checkpoint before there is a last one."""
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / f"{name}.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"x")
    for spec in (run, checkpoint, checkpoint.parent):
        with pytest.raises(ArgumentError) as error:
            load_model(spec)
        assert (error.value.argument, error.value.value) == ("model", str(spec))
        assert f"ckpt_path {checkpoint}" in error.value.reason
    trained_head(clip).save_pretrained(run)
    assert load_model(run).config.trained
    with pytest.raises(ArgumentError) as error:
        load_model(checkpoint)
    assert error.value.reason.endswith(str(run))


def test_what_lies_at_a_path_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "notes.txt").touch()
    for spec, word in (
        (str(tmp_path / "rnus"), str(tmp_path / "runs")),  # a typo
        (f"local-dir:{tmp_path / 'none'}", "no such folder"),
        (str(tmp_path / "notes.txt"), "file"),
        (str(tmp_path / "runs"), "config.json"),
    ):
        with pytest.raises(ArgumentError) as error:
            load_model(spec)
        assert error.value.argument == "model"
        assert word in error.value.reason


def test_a_folder_of_heads_names_them(clip: Backbone, tmp_path: Path) -> None:
    PACL.untrained(clip).save_pretrained(tmp_path / "mine")
    (tmp_path / "other").mkdir()
    with pytest.raises(ArgumentError, match=f"heads in mine; .*{tmp_path / 'mine'}"):
        load_model(str(tmp_path))


def test_a_training_free_clip_gets_the_protocols_size(clip: Backbone) -> None:
    assert load_model("open_clip:ViT-B-32/random").config.size == 336
    assert load_model(clip.name).config.size == 32


def test_another_dense_variant_than_trained_on_warns(clip: Backbone, tmp_path: Path) -> None:
    trained_head(clip, dense="value").save_pretrained(tmp_path)
    with pytest.warns(OtherDenseVariant, match="value") as caught:
        assert load_model(str(tmp_path), dense="naclip").config.dense == "naclip"
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(str(tmp_path), dense="value")
    with pytest.raises(ArgumentError) as error:
        load_model(str(tmp_path), dense="best")
    assert (error.value.argument, error.value.value) == ("dense", "best")


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
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        loading, "load_backbone", lambda name: clip if name == loading.OPENAI_B16 else pytest.fail(name)
    )
    model = load_model("auto")
    assert model.clip is clip
    assert model.name == OPENAI_B16
    assert (model.config.dense, model.config.start, model.config.trained) == ("naclip", "clip", False)
    with pytest.raises(ArgumentError) as error:
        load_model("auto", dense="best")
    assert error.value.argument == "dense"


def test_auto_without_a_clip_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "reachable", lambda: False)
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ArgumentError) as error:
        load_model()
    assert (error.value.argument, error.value.value) == ("model", "auto")


def test_auto_takes_the_photo_model_without_a_clip_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "reachable", lambda: False)
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_: None)
    with pytest.warns(FallbackModel) as caught:
        model = load_model("auto", fallback=True)
    assert caught[0].filename == __file__
    assert model.clip.name == "timm:tf_efficientnet_lite2.in1k+static:words"
    assert model.name == "photos"
    assert (model.config.start, model.config.trained) == ("conse", True)


def test_auto_without_any_clip_is_the_bundled_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints one line, which names the reasons."""

    def missing(name: str, **_: object) -> Backbone:
        if name == "bundled":
            return load_backbone(name)
        raise UserError(f"no weights of {name}") from OSError("damaged file")

    monkeypatch.setattr(loading, "reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(loading, "load_backbone", missing)
    monkeypatch.setattr("pacl.models.model.load_backbone", missing)
    args = argparse.Namespace(model="auto", dense=None, device="cpu")
    model = cli_model.load(args)
    assert model.clip.name == model.name == "bundled"
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("pacl: warning: ")
    assert "damaged file" in warning
    assert "no weights of timm:" in warning


def test_the_command_shows_other_warnings_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: warnings.warn("slow", RuntimeWarning, stacklevel=1))
    cli_model.load(argparse.Namespace(model="bundled", dense=None, device="cpu"))
    assert capsys.readouterr().err == "pacl: warning: slow\n"


NO_USER, TOO_LONG = "~nobody_of_this_name/x", "a" * 300


@pytest.mark.parametrize(
    "name",
    [
        NO_USER,
        TOO_LONG,
        f"local-dir:{NO_USER}",
        f"open_clip:ViT-B-16/{TOO_LONG}",
        f"timm:test_resnet/{TOO_LONG}+static:words",
        f"timm:test_resnet/random+st:{NO_USER}",
        f"timm:test_resnet/random+static:/{TOO_LONG}",
        f"timm:test_resnet/random+local-dir:{NO_USER}",
    ],
)
def test_an_unusable_path_in_a_name_is_one_line(name: str) -> None:
    with pytest.raises(ArgumentError) as error:
        loading.load_model(name)
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["ViT-B/16", "openai/clip-vit-base-patch16"])
def test_names_of_other_libraries_are_translated(name: str) -> None:
    with pytest.raises(ArgumentError) as error:
        load_model(name)
    assert error.value.argument == "model"
    assert OPENAI_B16 in error.value.reason


def test_another_default_dtype_is_refused() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(UserError, match="float64"):
            load_model("bundled")
    finally:
        torch.set_default_dtype(torch.float32)
