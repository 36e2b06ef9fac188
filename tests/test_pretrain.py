"""The command: which model it trains, from which configuration, and what it refuses."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pacl import pretrain
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from pacl.models.dual import CONFIG as DUAL_CONFIG
from pacl.models.loading import load_model
from pacl.training.pretrain_clip import CONFIG, WEIGHTS, CLIPModule
from pacl.training.pretrain_dual import DualEncoderModule
from tests.paths import ROOT
from tests.tiny import save_tiny_clip

CONFIGS = ROOT / "configs"
QUIET = {
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.num_sanity_val_steps": 0,
    "trainer.log_every_n_steps": 1,
}


def flags(settings: dict) -> list[str]:
    return [f"--{key}={value}" for key, value in settings.items()]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A table of 12 pictures in three colours with two captions each."""
    rows = ["image,caption"]
    for n in range(12):
        colour = ("red", "green", "blue")[n % 3]
        square = np.zeros((32, 32, 3), np.uint8)
        square[..., n % 3] = 200 + n
        Image.fromarray(square).save(tmp_path / f"{n}.png")
        rows += [f'{n}.png,"a {colour} square, plain"', f"{n}.png,{colour} all over"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return tmp_path / "t.csv"


def small_clip(tmp_path: Path) -> list[str]:
    """Flags: two steps of configs/scenes_clip.yaml, made small."""
    small = {
        "data.n_train": 16,
        "data.n_val": 8,
        "data.size": 32,
        "data.batch_size": 8,
        "data.block": 4,
        "model.towers.image_size": 32,
        "model.towers.width": 32,
        "model.towers.layers": 1,
        "trainer.max_steps": 2,
        "trainer.devices": 1,
        "trainer.strategy": "auto",
        "trainer.precision": 32,
        "trainer.val_check_interval": 2,
        "trainer.enable_progress_bar": "false",
        "trainer.logger.save_dir": tmp_path,
        "trainer.default_root_dir": tmp_path,
        "export.folder": tmp_path / "clip",
        "threads": 0,
    }
    return [f"--config={CONFIGS / 'scenes_clip.yaml'}", *flags(small)]


@pytest.mark.parametrize(
    "setting", ["fast_dev_run=True", "overfit_batches=2", "limit_val_batches=0.5", "accumulate_grad_batches=2"]
)
def test_settings_that_measure_or_train_on_parts_of_what_was_asked_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        pretrain.main([*small_clip(tmp_path), f"--trainer.{setting}"])
    assert error.value.argument == f"trainer.{setting.partition('=')[0]}"
    assert not (tmp_path / "clip" / WEIGHTS).exists()


def test_the_command_trains_from_the_shipped_configuration(tmp_path: Path) -> None:
    assert pretrain.main(small_clip(tmp_path)) == 0
    assert (tmp_path / "clip" / WEIGHTS).exists()
    config = json.loads((tmp_path / "clip" / CONFIG).read_text())
    assert "red" in config["vocabulary"]
    assert {"a red star", "grass"} <= set(config["contrast"])


def test_the_dual_configuration_trains_a_backbone(photos: Path, tmp_path: Path) -> None:
    """Three epochs of configs/flickr8k_dual.yaml on small towers, and a second run on the kept features."""
    small = {
        **QUIET,
        "data.pairs": photos,
        "data.hold_out": 3,
        "data.batch_size": 4,
        "data.cache": tmp_path / "features",
        "data.workers": 0,
        "model.image": "timm:test_efficientnet/random",
        "model.text": save_tiny_clip(tmp_path / "clip"),
        "model.size": 32,
        "model.dim": 8,
        "trainer.max_epochs": 3,
        "trainer.logger.save_dir": tmp_path,
        "trainer.default_root_dir": tmp_path,
        "export.folder": tmp_path / "dual",
    }
    argv = ["--config", str(CONFIGS / "flickr8k_dual.yaml"), *flags(small)]
    assert pretrain.main(argv) == 0
    kept = [path.read_bytes() for path in (tmp_path / "features").rglob("*.bin")]
    assert sorted(map(len, kept)) == [2 * 3 * 256, 2 * 9 * 256]  # float16; held out, trained on; tokens of width 256
    with pytest.raises(ArgumentError) as error:  # the model of another run is there
        pretrain.main(argv)
    assert (error.value.argument, error.value.value) == ("export.folder", tmp_path / "dual")
    (tmp_path / "dual" / "open_clip_config.json").write_text("{}")  # of a model of another kind
    assert pretrain.main([*argv, "--overwrite"]) == 0
    assert not (tmp_path / "dual" / "open_clip_config.json").exists()
    clip = load_backbone(f"local-dir:{tmp_path / 'dual'}")
    assert (clip.shared, clip.dim, clip.size) == (True, 8, 32)
    assert load_model(f"local-dir:{tmp_path / 'dual'}").config.trained is False
    assert json.loads((tmp_path / "dual" / DUAL_CONFIG).read_text())["image"] == "timm:test_efficientnet/random"
    logged = (tmp_path / "flickr8k_dual" / "version_1" / "metrics.csv").read_text()
    assert {"val_recall", "val_recall_chance", "val_image_to_text_R1", "val_text_to_image_R10"} <= set(
        logged.splitlines()[0].split(",")
    )


def test_a_configuration_without_class_path_is_a_clips(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pretrain.main(["--config", "configs/flickr8k_clip.yaml", "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model["class_path"] == f"{CLIPModule.__module__}.CLIPModule"
    assert model["init_args"]["towers"]["image_size"] == 80


def test_a_class_is_named_by_its_name_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pretrain.main(["--config", "configs/flickr8k_dual.yaml", "--model=DualEncoderModule", "--print_config"])
    assert (
        yaml.safe_load(capsys.readouterr().out)["model"]["class_path"]
        == f"{DualEncoderModule.__module__}.DualEncoderModule"
    )


def test_defaults_that_the_models_share_are_equal() -> None:
    """jsonargparse gives the settings of the default class to another one that has some of the same names."""
    clip, dual = (inspect.signature(module).parameters for module in (CLIPModule, DualEncoderModule))
    shared = clip.keys() & dual.keys()
    assert "warmup" in shared
    assert {name: clip[name].default for name in shared} == {name: dual[name].default for name in shared}


CLIP = {
    **QUIET,
    "model.towers.image_size": 32,
    "model.towers.width": 32,
    "model.towers.layers": 1,
    "trainer.max_steps": 1,
    "trainer.logger": "false",
    "trainer.enable_checkpointing": "false",
    "threads": 0,
}


def arguments(folder: Path, data: dict) -> list[str]:
    """Train the small CLIP on this data, to FOLDER/clip."""
    (folder / "c.yaml").write_text(yaml.safe_dump({"data": data, "trainer": {"max_epochs": 1}}))
    to = {"trainer.default_root_dir": folder, "export.folder": folder / "clip"}
    return ["--config", str(folder / "c.yaml"), *flags({**CLIP, **to})]


def test_a_clip_is_trained_on_scene_data(tmp_path: Path) -> None:
    data = {"class_path": "pacl.scenes.SceneData", "init_args": {"scenes": 8, "batch_size": 4, "cache": None}}
    assert pretrain.main(arguments(tmp_path, data)) == 0
    config = json.loads((tmp_path / "clip" / CONFIG).read_text())
    assert {"red", "grass"} <= set(config["vocabulary"])
    assert "grass" in config["contrast"]


@pytest.mark.parametrize("name", ["SceneData", "CaptionData"])
def test_tokens_of_a_tower_that_trains_are_not_kept(name: str, photos: Path, tmp_path: Path) -> None:
    package, init = ("scenes", {"scenes": 8}) if name == "SceneData" else ("data", {"pairs": str(photos)})
    data = {"class_path": f"pacl.{package}.{name}", "init_args": {**init, "batch_size": 4, "cache": "memory"}}
    with pytest.raises(UserError, match="cache"):
        pretrain.main(arguments(tmp_path, data))


def test_words_before_a_comma_are_known(photos: Path, tmp_path: Path) -> None:
    data = {"class_path": "pacl.data.CaptionData", "init_args": {"pairs": str(photos), "batch_size": 4}}
    assert pretrain.main(arguments(tmp_path, data)) == 0
    known = json.loads((tmp_path / "clip" / CONFIG).read_text())["vocabulary"]
    assert known == ["a", "all", "blue", "green", "over", "plain", "red", "square"]
