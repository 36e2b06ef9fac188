"""Every configuration that travels with the package: it says what it is for, and the command takes it."""

from __future__ import annotations

import pytest
import yaml

from pacl import pretrain, train
from tests.paths import ROOT

PRETRAINING = ("_clip", "_dual")
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_they_are_the_ones_that_the_readme_promises():
    names = {path.stem for path in CONFIGS}
    assert names >= {"scenes", "captions", "flickr8k", "coco_vitb16", "cc3m_vitb16", "paper_vitb16", "paper_vitl14"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_first_line_says_what_for_and_the_next_how(path):
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert len(first) > 60
    verb = "pretrain" if path.stem.endswith(PRETRAINING) else "train"
    assert second.startswith(f"#   python -m pacl.{verb}")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_command_knows_every_setting(path, capsys):
    command = pretrain if path.stem.endswith(PRETRAINING) else train
    with pytest.raises(SystemExit) as stop:
        command.main(["--config", str(path), "--print_config"])
    assert stop.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    ours = yaml.safe_load(path.read_text(encoding="utf-8"))
    got, wanted = (settings["model"].get("init_args", settings["model"]) for settings in (printed, ours))
    wanted = {key: value for key, value in wanted.items() if not isinstance(value, dict)}
    assert {key: got[key] for key in wanted} == wanted
    assert printed["trainer"].items() >= {k: v for k, v in ours["trainer"].items() if k != "logger"}.items()


@pytest.mark.parametrize("name", ["paper_vitb16", "paper_vitl14"])
def test_the_published_recipe_is_the_published_one(name):
    """Section 4 of the paper, as far as it is known: batch, epochs, optimiser; no temperature in the pooling."""
    settings = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    model, data = settings["model"], settings["data"]["init_args"]
    assert (model["dense"], model["start"], model["temperature"], model["learn_temperature"]) == (
        "clip",
        "paper",
        1,
        False,
    )
    assert model["scale_lr"] == model["lr"]
    assert (model["lr"], model["betas"], model["eps"], model["weight_decay"]) == (5e-4, [0.9, 0.98], 1e-6, 0.2)
    assert (data["batch_size"], settings["trainer"]["max_epochs"], settings["trainer"]["devices"]) == (4096, 10, 4)
    assert data["nouns"] is True
    assert data["templates"] == "paper"
    assert 28e6 < sum(source["size"] for source in data["train"]) < 32e6


def test_the_slurm_example_is_a_shell_script_that_resumes():
    text = (ROOT / "configs" / "slurm.sh").read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n")
    for words in ("srun python -m pacl.train", "--ckpt_path last", "--trainer.num_nodes", "torchrun", "--signal=TERM"):
        assert words in text
