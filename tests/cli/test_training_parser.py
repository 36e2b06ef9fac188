"""Commands of a training parse their settings wherever they run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pacl import pretrain
from pacl.errors import UserError


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


def test_flags_win_over_configs_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(
            f"trainer: {{max_steps: 9}}\nseed_everything: 8\nexport: {{folder: {name}}}\n"
        )
    words = ["--trainer.max_steps", "7", "--config", "scenes_clip.yaml", "--seed_everything=5"]
    with pytest.raises(SystemExit):
        pretrain.main([*words, "--config=first.yaml", "-c", "second.yaml", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["trainer"]["max_steps"], printed["seed_everything"]) == (7, 5)
    assert printed["export"]["folder"] == "second"
    with pytest.raises(SystemExit):
        pretrain.main(["--export.folder", "mine", "--config", "first.yaml", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["export"]["folder"] == "mine"
