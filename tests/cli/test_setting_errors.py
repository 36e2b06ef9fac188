"""Mistyped settings name the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl import pretrain, train
from pacl.cli import pretraining_run
from pacl.cli.setting_errors import suggest
from pacl.cli.training_run import run
from pacl.errors import UserError

OWN = ["--config", "configs/own_photos.yaml"]
DUAL = ["--model", "DualEncoderModule"]
KNOWN = ["trainer.max_steps", "trainer.max_epochs", "data.batch_size", "model.lr", "model.scale_lr", "out"]


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--max_steps", "trainer.max_steps"),
        ("--max-steps", "trainer.max_steps"),
        ("--max_step", "trainer.max_steps"),
        ("--trainer.max_stps", "trainer.max_steps"),
        ("--modle.lr", "model.lr"),
        ("--lr", "model.lr"),
        ("--data.batchsize", "data.batch_size"),
        ("--ouut", "out"),
        ("--something_else", None),
        ("--model.learning_rate", "model.lr"),
        ("--learning-rate", "model.lr"),
        ("--trainer.learning_rate", "model.lr"),
        ("--epochs", "trainer.max_epochs"),
        ("--trainer.num_train_epochs", "trainer.max_epochs"),
        ("--output_dir", "out"),
    ],
)
def test_the_closest_setting_is_suggested(flag: str, meant: str | None) -> None:
    found = suggest(flag, KNOWN)
    assert found == ("" if meant is None else f"did you mean --{meant}?")


def parsed(words: list[str]) -> int:
    """Training without the look at its arguments that comes before the parser's."""
    return run(words, None)


def pretrain_parsed(words: list[str]) -> int:
    """Pretraining without that look."""
    return pretraining_run.run(words, None)


@pytest.mark.parametrize(
    ("main", "words", "named"),
    [
        (train.main, ["--max_steps=3"], ["--max_steps", "--trainer.max_steps?"]),
        (train.main, ["--batch_size", "3"], ["--batch_size", "--data.batch_size?"]),
        (train.main, ["--data.batchsize=3"], ["--data.batchsize", "--data.batch_size?"]),
        (train.main, ["--data.pairs=x.csv"], ["--data.pairs", "--config configs/own_photos.yaml"]),
        (train.main, ["--model", "bundled"], ["--model bundled", "--model.backbone bundled?"]),
        (train.main, ["--trainer.max_steps=abc"], ["--trainer.max_steps abc", "int"]),
        (train.main, ["--data.batch_size=abc"], ["--data.batch_size abc", "int"]),
        (train.main, ["--trainer.precision=foo"], ["--trainer.precision foo", "bf16-mixed"]),
        (train.main, ["--model.temperature=inf"], ["--model.temperature inf", ".inf"]),
        (train.main, ["--head=worst"], ["--head worst", "last, best"]),
        (train.main, ["--seed_everything=-1"], ["seed_everything -1"]),
        (pretrain.main, ["--seed_everything=99999999999"], ["seed_everything 99999999999"]),
        (parsed, ["--trainer.max_step", "30"], ["--trainer.max_step:", "--trainer.max_steps?"]),
        (parsed, ["--model.temperatur=1"], ["--model.temperatur:", "--model.temperature?"]),
        (train.main, ["--model.learning_rate=1e-4"], ["--model.learning_rate:", "--model.lr?"]),
        (train.main, ["--learning_rate=1e-4"], ["--learning_rate:", "--model.lr?"]),
        (train.main, ["--epochs", "3"], ["--epochs:", "--trainer.max_epochs?"]),
        (train.main, ["--output_dir=x"], ["--output_dir:", "--out?"]),
        (train.main, ["--resume=x"], ["--resume:", "--ckpt_path?"]),
        (train.main, [*OWN, "--data.num_workers=2"], ["--data.num_workers:", "--data.workers?"]),
        (train.main, [*OWN, "--num_workers", "2"], ["--num_workers:", "--data.workers?"]),
        (train.main, ["--save_ever", "3"], ["--save_ever:", "--save_every?"]),
        (train.main, ["--overwrit"], ["--overwrit:", "--overwrite?"]),
        (pretrain.main, ["--export.folde=x"], ["--export.folde:", "--export.folder?"]),
        (pretrain.main, ["--max_steps=3"], ["--max_steps", "--trainer.max_steps?"]),
        (pretrain.main, ["--model.lr=3"], ["--model.lr:", "--model.learning_rate?"]),
        (pretrain.main, ["--trainer.learning_rate=3"], ["--trainer.learning_rate:", "--model.learning_rate?"]),
        (pretrain.main, ["--out=x"], ["--out:", "--export.folder?"]),
        (pretrain_parsed, ["--model.lr=3"], ["--model.lr:", "--model.learning_rate?"]),
        (pretrain_parsed, ["--model.towers.widht=3"], ["--model.towers.widht:", "--model.towers.width?"]),
        (pretrain_parsed, [*DUAL, "--model.learning_rate=3"], ["--model.learning_rate:", "--model.head_lr?"]),
    ],
)
def test_commands_name_the_flag_in_a_short_line(main, words: list[str], named: list[str]) -> None:
    with pytest.raises(UserError) as error:
        main(words)
    message = str(error.value)
    assert all(name in message for name in named), message
    assert len(message) < 250
    assert "\n" not in message


@pytest.mark.parametrize(
    ("run", "text", "named"),
    [
        (parsed, "frob: 3", ["--frob: no such"]),
        (parsed, "model: {learning_rate: 3}", ["--model.learning_rate:", "--model.lr?"]),
        (parsed, "trainer: {learning_rate: 3}", ["--trainer.learning_rate:", "--model.lr?"]),
        (pretrain_parsed, "export: {folde: x}", ["--export.folde:", "--export.folder?"]),
        (pretrain_parsed, "model: {towers: {blocks: 3}}", ["--model.towers.blocks:", "CLIPModule"]),
    ],
)
def test_settings_of_a_configuration_that_are_unknown_are_named(
    run, text: str, named: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    with pytest.raises(UserError) as error:
        run(["--config", str(config)])
    assert all(name in str(error.value) for name in named), error.value
