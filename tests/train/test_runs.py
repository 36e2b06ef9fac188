"""Several runs in one folder: resumed, refused, replaced."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch

from pacl import train
from pacl.errors import ArgumentError, UserError
from pacl.models.card import with_hub_fields
from pacl.models.config import CONFIG
from pacl.models.head import HeadConfig
from pacl.models.loading import load_model
from pacl.training.run_folder import RunFolder
from tests.train.command import QUIET, SMALL, run


def test_a_resumed_run_goes_on_where_it_was(tiny_clip, tmp_path):
    first = run(tiny_clip, tmp_path / "first", "--trainer.max_steps=3")
    shutil.copytree(first, tmp_path / "second")
    second = run(tiny_clip, tmp_path / "second", "--trainer.max_steps=6", "--ckpt_path=last")
    checkpoint = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert checkpoint["optimizer_states"][0]["state"][0]["step"] == 6  # Adam's moments went on too
    assert not torch.equal(load_model(str(first)).embedder.skip.weight, load_model(str(second)).embedder.skip.weight)


def test_a_resumed_run_has_the_rates_of_its_own_number_of_steps(tiny_clip, tmp_path):
    """Of the schedule of all its steps, and not those that the checkpoint ended with."""
    rates = ["--model.lr=0.1", "--model.warmup=0", "--trainer.log_every_n_steps=1", "--trainer.logger=true"]
    run(tiny_clip, tmp_path, "--trainer.max_steps=4", *rates)
    run(tiny_clip, tmp_path, "--trainer.max_steps=8", *rates, "--ckpt_path=last")
    (log,) = (tmp_path / "logs").glob("version_1/metrics.csv")
    with log.open() as file:
        found = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert found[0] == pytest.approx(0.05)  # half of a cosine of eight steps


@pytest.mark.parametrize("presence", [0.2, 0.0])
def test_a_resumed_run_says_that_its_head_loses_a_calibration(tiny_clip, tmp_path, capsys, presence):
    run(tiny_clip, tmp_path, "--trainer.max_steps=1")
    config = HeadConfig.read(tmp_path / CONFIG)
    config.presence = presence
    (tmp_path / CONFIG).write_text(config.to_json())
    capsys.readouterr()
    run(tiny_clip, tmp_path, "--trainer.max_steps=2", "--ckpt_path=last")
    assert ("pacl calibrate" in capsys.readouterr().err) is (presence > 0)
    assert load_model(str(tmp_path)).config.presence == 0


def files(folder: Path) -> dict[str, bytes]:
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_a_second_run_does_not_replace_the_first(tiny_clip, tmp_path):
    run(tiny_clip, tmp_path, "--trainer.max_steps=2")
    first = files(tmp_path)
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=3")
    assert (error.value.argument, error.value.value) == ("out", tmp_path)
    assert files(tmp_path) == first
    elsewhere = run(tiny_clip, tmp_path / "other", "--trainer.max_steps=1") / "checkpoints" / "last.ckpt"
    with pytest.raises(ArgumentError):  # a checkpoint of elsewhere does not make this folder its own
        run(tiny_clip, tmp_path, "--trainer.max_steps=3", f"--ckpt_path={elsewhere}")
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=3", "--overwrite", "--data.batch_size=1")
    assert error.value.argument == "data.batch_size"
    assert {name: value for name, value in files(tmp_path).items() if "other" not in name} == first
    run(tiny_clip, tmp_path, "--trainer.max_steps=3", "--overwrite")
    assert files(tmp_path)["model.safetensors"] != first["model.safetensors"]


def test_a_readme_of_the_users_own_is_kept(tiny_clip, tmp_path):
    """The model card of a head, also as its owner has completed it, is replaced."""
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(ArgumentError) as error:
        run(tiny_clip, tmp_path, "--trainer.max_steps=1", "--overwrite")
    assert error.value.value == tmp_path / "README.md"
    assert [path.read_text() for path in tmp_path.glob("*.*") if path.suffix != ".lock"] == ["# My project\n"]
    (tmp_path / "README.md").unlink()
    run(tiny_clip, tmp_path, "--trainer.max_steps=1")
    card = with_hub_fields((tmp_path / "README.md").read_text(), license="mit")
    (tmp_path / "README.md").write_text(card)
    run(tiny_clip, tmp_path, "--trainer.max_steps=2", "--overwrite")
    assert "license" not in (tmp_path / "README.md").read_text()


def test_of_two_runs_at_once_the_second_stops(tiny_clip, tmp_path):
    with RunFolder(tmp_path, "head", "out", False, False, "").claim():
        with pytest.raises(ArgumentError) as error:
            run(tiny_clip, tmp_path, "--trainer.max_steps=1", "--overwrite")
        assert (error.value.argument, error.value.value) == ("out", tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_the_folder_is_held_while_the_model_is_loaded(tiny_clip, tmp_path, monkeypatch):
    def load(name, layers):
        with pytest.raises(ArgumentError), RunFolder(tmp_path / "out", "head", "out", False, False, "").claim():
            pass
        raise UserError("no such model")

    monkeypatch.setattr("pacl.training.module.load_backbone", load)
    with pytest.raises(UserError):
        run(tiny_clip, tmp_path / "out", "--trainer.max_steps=1")
    assert not (tmp_path / "out").exists()


def test_the_head_of_a_stopped_run_can_be_written_without_more_steps(tiny_clip, tmp_path, capsys):
    stop = ["--trainer.callbacks=tests.killer.Killer", "--trainer.callbacks.step=2", "--trainer.callbacks.moment=after"]
    arguments = [*SMALL, *QUIET, f"--model.backbone={tiny_clip}", f"--out={tmp_path}", "--trainer.max_steps=20"]
    arguments.append("--model.warmup=4")
    assert train.main([*arguments, *stop, "--trainer.callbacks.number=15"]) == 128 + 15
    assert not (tmp_path / "config.json").exists()
    capsys.readouterr()
    run(tiny_clip, tmp_path, "--trainer.max_steps=1", "--model.warmup=4", "--ckpt_path=last")
    assert "warmup" not in capsys.readouterr().err
    assert "warmup 4," in (tmp_path / "README.md").read_text()  # as it was used, not a quarter of 1 step
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(load_model(str(tmp_path)).embedder.skip.weight, state["pacl.embedder.skip.weight"])
