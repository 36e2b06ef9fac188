"""Commands of a training parse their settings wherever they run."""

from __future__ import annotations

from pathlib import Path

import pytest

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
