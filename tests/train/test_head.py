"""What a run leaves: a head that has learnt, its card, checkpoints and logs."""

from __future__ import annotations

import csv
import math
import re

import pytest
import torch

from pacl import train
from pacl.errors import UserError
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.open_clip_loading import bundled_folder
from tests.train.command import QUIET, SMALL, run


@pytest.mark.parametrize("cache", ["memory", "null"])
def test_a_run_leaves_a_head_that_loads(tiny_clip, tmp_path, cache):
    out = run(
        tiny_clip,
        tmp_path / "out",
        "--trainer.max_steps=3",
        "--model.learn_temperature=true",
        "--model.text=linear",
        "--data.nouns=true",
        f"--data.cache={cache}",
    )
    model = load_model(str(out))
    assert model.config.trained
    assert model.config.dense == "value"
    start = PACL.untrained(load_backbone(tiny_clip), learn_temperature=True, text="linear")
    for name, tensor in model.head_state().items():
        assert not torch.equal(tensor, start.head_state()[name]), f"{name} did not train"
    frozen = load_backbone(tiny_clip).state_dict()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.clip.state_dict().items())


def test_the_card_states_the_temperature_that_was_learned(tiny_clip, tmp_path):
    for learned in ("true", "false"):
        out = run(
            tiny_clip,
            tmp_path / learned,
            "--trainer.max_steps=3",
            f"--model.learn_temperature={learned}",
            "--model.temperature=0.1",
            "--model.scale_lr=0.05",
        )
        model = load_model(str(out))
        (row,) = (line for line in (out / "README.md").read_text().splitlines() if line.startswith("| pooling |"))
        assert f"temperature {model.temperature.item():.4g}{', learned' if learned == 'true' else ''} |" in row
        assert ("temperature 0.1 " in row) is (learned == "false")
        (out / "README.md").unlink()
        load_model(str(out)).save_pretrained(tmp_path / "copy")
        assert row in (tmp_path / "copy" / "README.md").read_text()


def test_diagnostics_are_logged(tiny_clip, tmp_path):
    arguments = [a for a in SMALL if "scenes=" not in a]
    arguments += [*QUIET[:2], "--data.scenes=24", "--trainer.max_steps=4", "--trainer.log_every_n_steps=1"]
    train.main([*arguments, f"--model.backbone={tiny_clip}", f"--out={tmp_path}"])
    (log,) = tmp_path.glob("logs/version_0/metrics.csv")
    rows = list(csv.DictReader(log.open()))
    assert len(rows) == 4
    for name in ("loss", "accuracy", "logit_scale", "temperature", "pooling_entropy", "images_per_second"):
        assert math.isfinite(float(rows[-1][name])), name
    assert (tmp_path / "logs/version_0/config.yaml").is_file()


def test_checkpoints_hold_only_what_trains(tiny_clip, tmp_path):
    out = run(tiny_clip, tmp_path, "--trainer.max_steps=2")
    checkpoint = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    names = set(checkpoint["state_dict"])
    assert names == {
        "pacl.log_logit_scale",
        *(f"pacl.embedder.{part}.{kind}" for part in ("main.0", "main.2", "skip") for kind in ("weight", "bias")),
    }
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(names)


def test_the_same_seed_gives_the_same_head(tiny_clip, tmp_path):
    heads = [
        load_model(str(run(tiny_clip, tmp_path / name, "--trainer.max_steps=2", f"--seed_everything={seed}")))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    a, b, c = (head.embedder.main[0].weight for head in heads)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_miniature_training_learns_where_things_are(tmp_path):
    """From random weights on the bundled CLIP: the loss falls and masks get far better."""
    if not (bundled_folder() / "clip" / "open_clip_model.safetensors").is_file():
        pytest.skip("the bundled CLIP is not here")
    from eval.scenes.evaluator import SceneEvaluator
    from eval.scenes.sets import SceneSet

    clip = load_backbone("bundled")
    evaluator = SceneEvaluator(clip, {"seen": SceneSet.render("val", 40, "seen", clip.size)}, {}, {})
    torch.manual_seed(0)
    before = evaluator.measure(PACL.untrained(clip, start="paper"))
    arguments = ["--model.start=paper", "--data.scenes=512", "--data.batch_size=128", "--model.patches=48"]
    arguments += ["--trainer.max_steps=60", "--trainer.log_every_n_steps=5"]
    train.main([*arguments, *QUIET[:2], f"--out={tmp_path}"])
    (log,) = tmp_path.glob("logs/version_0/metrics.csv")
    losses = [float(row["loss"]) for row in csv.DictReader(log.open())]
    assert losses[-1] < 0.6 * losses[0]
    assert "checkered" in (tmp_path / "README.md").read_text()  # the card lists the words of a closed vocabulary
    after = evaluator.measure(load_model(str(tmp_path)))
    assert after["objects/own/seen"] > before["objects/own/seen"] + 15
    assert after["grounds/own/seen"] > before["grounds/own/seen"] + 15


@pytest.mark.parametrize("more", [[], ["--save_every=1"]])
def test_a_head_that_is_not_finite_is_not_saved(tiny_clip, tmp_path, more):
    with pytest.raises(UserError, match=r"finite|nan"):
        run(tiny_clip, tmp_path, "--trainer.max_steps=4", "--model.lr=1e30", *more)
    assert not (tmp_path / "config.json").exists()
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_one_callback_may_stand_alone(tiny_clip, tmp_path):
    out = run(
        tiny_clip,
        tmp_path,
        "--trainer.max_steps=1",
        "--trainer.callbacks=tests.killer.Stopper",
        "--trainer.callbacks.step=9",
    )
    assert load_model(str(out)).config.trained


def test_the_head_knows_its_size_and_its_card_the_run(tiny_clip, tmp_path):
    out = run(tiny_clip, tmp_path, "--trainer.max_steps=2", "--data.size=48", "--model.warmup=9")
    assert load_model(str(out)).config.size == 48
    card = (out / "README.md").read_text()
    for words in ("24 procedural scenes", "2 steps over 16 images", "batch_size 8", "seed 0", "cut.mode", "loss |"):
        assert words in card
    assert re.search(r"\bwarmup 1\b", card)  # a quarter of the 2 steps, not the 9 that were asked for


def test_logging_can_be_turned_off(tiny_clip, tmp_path):
    out = run(tiny_clip, tmp_path, "--trainer.max_steps=1", "--trainer.log_every_n_steps=0")
    assert load_model(str(out)).config.trained
