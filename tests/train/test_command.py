"""The command without a training: configurations and help; and what it prints."""

from __future__ import annotations

import pytest

from pacl import train
from tests.train.command import SMALL, captioned, run


def test_no_arguments_are_the_scenes_config(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        train.main(["--print_config"])
    without = capsys.readouterr().out
    with pytest.raises(SystemExit):
        train.main(["--config", "configs/scenes.yaml", "--print_config"])
    assert capsys.readouterr().out == without


def test_print_config_states_every_setting(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        train.main(["--print_config", "--model.lr=0.123"])
    assert stop.value.code in (0, None)
    printed = capsys.readouterr().out
    for line in ("lr: 0.123", "backbone: bundled", "class_path: pacl.scenes.SceneData", "dense: value"):
        assert line in printed


def test_help_explains_the_settings(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("--model.temperature", "softmax that pools patches", "--out", "--data.help", "--ckpt_path"):
        assert words in printed


def test_output_is_quiet(tiny_clip, tmp_path, capsys):
    data = captioned(tmp_path, 20)
    arguments = [*SMALL[1:], *data, f"--model.backbone={tiny_clip}", f"--out={tmp_path / 'out'}", "--data.batch_size=4"]
    arguments = [argument for argument in arguments if "data.size" not in argument]
    assert train.main([*arguments, "--trainer.max_steps=3", "--trainer.accelerator=cpu"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "FLOPs" not in err
    assert ".py:" not in err
    assert "chance" in err


def test_the_help_begins_with_what_most_need(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    first = capsys.readouterr().out.splitlines()[:30]
    assert sum(line.startswith("usage") for line in first) == 1
    for flag in ("--data.pairs", "--trainer.max_steps", "--out", "--model.backbone"):
        assert any(line.strip().startswith(flag) for line in first), flag


def test_a_log_gets_lines_while_nouns_are_found(tiny_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pacl.cli.progress.LINE_EVERY", 0)
    run(tiny_clip, tmp_path / "out", *captioned(tmp_path, 16), "--data.nouns=true", "--trainer.max_steps=1")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pacl train: nouns (")]
    assert len(lines) == 15  # none for the first caption, whose time is not known
