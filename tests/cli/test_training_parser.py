"""Commands of a training parse their settings wherever they run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pacl import pretrain, train
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


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--data.pairs", "odd.csv"], "set --data.image_column and --data.caption_column"),
        (["--data.hold_out", "0", "--data.train", "[{pairs: odd.csv}]"], "set image_column and caption_column"),
    ],
)
def test_advice_of_readers_names_flags_of_pairs_and_keys_of_a_list(
    words: list[str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    settings = ["--config", "configs/own_photos.yaml", "--trainer.accelerator", "cpu", "--out", "run"]
    with pytest.raises(UserError) as error:
        train.main([*settings, *words])
    assert advice in error.value.with_flags()
