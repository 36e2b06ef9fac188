"""Configurations are found wherever the command runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.cli.configs import find_config, with_config
from pacl.errors import ArgumentError


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


def test_configs_go_in_front_in_their_order() -> None:
    first, second = str(find_config("scenes.yaml")), str(find_config("photos.yaml"))
    words = ["--out", "x", "-c", "scenes.yaml", "--trainer.max_steps=3", "--config=photos.yaml", "--overwrite"]
    assert with_config(words, "y") == [
        *("-c", first, f"--config={second}", "--out", "x", "--trainer.max_steps=3", "--overwrite"),
    ]
    assert with_config(["--overwrite", "--config"], "y") == ["--config", "--overwrite"]


def test_a_missing_config_names_those_there_are() -> None:
    with pytest.raises(ArgumentError, match="configs/scenes_clip") as error:
        find_config("nowhere.yaml")
    assert (error.value.argument, error.value.value) == ("config", "nowhere.yaml")


@pytest.mark.parametrize(
    ("given", "meant"), [("own_foto.yaml", "configs/own_photos.yaml"), ("configs/scene", "configs/scenes.yaml")]
)
def test_a_mistyped_config_names_the_one_that_was_meant(given: str, meant: str) -> None:
    with pytest.raises(ArgumentError) as error:
        find_config(given)
    assert meant in error.value.reason
    assert error.value.reason.count("configs/") == 1


@pytest.mark.parametrize("given", ["mine.yaml", "configs/mine.yaml", "my.yaml", "run.yaml"])
def test_a_name_like_no_config_suggests_none(given: str) -> None:
    with pytest.raises(ArgumentError) as error:
        find_config(given)
    assert "did you mean" not in error.value.reason
    assert error.value.reason.count("configs/") > 5
