"""Both trainings in small, from random weights to masks: what the bundled model is made by."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eval.scenes.evaluator import SceneEvaluator
from eval.scenes.sets import SceneSet
from pacl import pretrain, train
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL

SIDE = 32
QUIET = {
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.log_every_n_steps": 5,
}
CLIP = {
    **QUIET,
    "data.n_train": 4800,
    "data.n_val": 16,
    "data.size": SIDE,
    "data.batch_size": 48,
    "data.block": 4,
    "model.towers.image_size": SIDE,
    "model.towers.patch_size": 4,
    "model.towers.width": 64,
    "model.towers.layers": 2,
    "model.warmup": 20,
    "trainer.max_steps": 200,
    "trainer.strategy": "auto",
    "trainer.precision": 32,
    "trainer.val_check_interval": 200,
    "export.every": 0,
    "threads": 0,
}
HEAD = {
    **QUIET,
    "data.scenes": 600,
    "data.batch_size": 48,
    "data.captions": 2,
    "model.warmup": 10,
    "trainer.max_steps": 120,
}


def losses(folder: Path) -> list[float]:
    (log,) = folder.rglob("metrics.csv")
    with log.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.slow
def test_from_random_weights_to_masks_that_beat_chance(tmp_path: Path) -> None:
    to = {
        "export.folder": tmp_path / "clip",
        "trainer.logger.save_dir": tmp_path / "pretrain",
        "trainer.default_root_dir": tmp_path / "pretrain",
    }
    assert pretrain.main([f"--{key}={value}" for key, value in {**CLIP, **to}.items()]) == 0
    course = losses(tmp_path / "pretrain")
    assert sum(course[-5:]) < 0.8 * sum(course[:5])

    to = {"model.backbone": f"local-dir:{tmp_path / 'clip'}", "out": tmp_path / "head"}
    assert train.main([f"--{key}={value}" for key, value in {**HEAD, **to}.items()]) == 0
    course = losses(tmp_path / "head")
    assert sum(course[-5:]) < 0.9 * sum(course[:5])

    clip = load_backbone(f"local-dir:{tmp_path / 'clip'}")
    evaluator = SceneEvaluator(clip, {"seen": SceneSet.render("val", 60, "seen", SIDE)}, {}, {})
    trained = evaluator.measure(load_model(str(tmp_path / "head")))
    chance = evaluator.measure(PACL.untrained(clip, start="paper"))
    for what in ("objects", "grounds"):
        assert trained[f"{what}/own/seen"] > 1.5 * chance[f"{what}/own/seen"], (trained, chance)
