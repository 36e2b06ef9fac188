"""Configurations are found wherever the command runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl import pretrain
from pacl.cli.lightning import find_config, with_config
from pacl.errors import ArgumentError, UserError


def test_a_config_is_put_in_front_where_none_is_named() -> None:
    found = str(find_config("configs/scenes.yaml"))
    assert with_config([], "configs/scenes.yaml") == ["--config", found]
    assert with_config(["--trainer.max_steps=3"], "configs/scenes.yaml") == ["--config", found, "--trainer.max_steps=3"]


def test_configs_are_found_outside_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_config("configs/scenes.yaml")
    assert find_config("scenes.yaml") == found
    assert with_config(["--config=scenes.yaml"], "x") == [f"--config={found}"]
    assert with_config(["-c", "configs/scenes.yaml", "--out", "x"], "y") == ["-c", str(found), "--out", "x"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "scenes.yaml").write_text("out: mine\n")
    assert find_config("configs/scenes.yaml") == Path("configs/scenes.yaml")  # a user's own file goes first


def test_a_missing_config_names_those_there_are() -> None:
    with pytest.raises(ArgumentError, match="configs/scenes_clip") as error:
        find_config("nowhere.yaml")
    assert (error.value.argument, error.value.value) == ("config", "nowhere.yaml")


@pytest.mark.parametrize(
    "words", [["--model.towers.width=abc"], ["--no_such=1"], ["--config", "nowhere.yaml"]], ids=" ".join
)
def test_mistakes_in_pretraining_are_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        pretrain.main(words)


def test_pretraining_prints_its_config_outside_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        pretrain.main(["--config", "configs/scenes_clip.yaml", "--print_config"])
    assert stop.value.code in (0, None)
    assert "patch_size: 8" in capsys.readouterr().out
