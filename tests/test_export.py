"""The command `pacl export`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pacl.errors import ArgumentError, UserError
from pacl.export import main


def run(clip: str, *words: str) -> int:
    return main([*words, "--model", clip, "--to", "torchscript"])


def test_it_writes_a_graph_labels_and_their_description(
    tiny_clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("sky\ngrass;lawn\n")
    assert run(tiny_clip, "a dog", "--classes", str(classes), "--out", str(tmp_path / "out"), "--size", "64") == 0
    about = json.loads((tmp_path / "out/model.json").read_text())
    assert about["classes"]["labels"] == ["a dog", "sky", "grass"]
    assert about["resize"]["short_sides"] == [64]
    assert np.load(tmp_path / "out/classes.npy").shape == (4, about["image"]["outputs"]["patches"][1])
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert all(name in line for name in ("image.pt", "classes.npy", "model.json", "MB"))
    assert len(err.splitlines()) == 3  # a line before each step that takes long
    assert all(line.startswith("pacl export: ") for line in err.splitlines())


def test_one_label_has_the_words_that_compete_with_it(tiny_clip: str, tmp_path: Path) -> None:
    run(tiny_clip, "a dog", "--out", str(tmp_path / "out"))
    classes = json.loads((tmp_path / "out/model.json").read_text())["classes"]
    assert classes["background"] == "contrast"
    assert (classes["ids"][0], classes["ids"][-1]) == (0, 1)


@pytest.mark.parametrize(
    "words",
    [
        ["a dog", "A dog"],
        [" "],
        ["--size", "0"],
        ["--classes", "none.txt"],
        ["cat.jpg", "dog"],
        ["classes.txt"],
        ["photos/"],
        ["photos", "a dog"],
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("pacl.export.load", lambda args: pytest.fail("loaded"))
    with pytest.raises(UserError):
        main([*words, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_use_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    def loaded(_: object) -> None:
        raise RuntimeError("loaded")

    monkeypatch.setattr("pacl.export.load", loaded)
    about = {"format": "pacl-export", "image": {"file": "image.onnx"}, "text": None, "classes": None}
    (tmp_path / "model.json").write_text(json.dumps(about))
    words = ["a dog", "--to", "torchscript", "--out", str(tmp_path), *(["--overwrite"] if overwrite else [])]
    with pytest.raises(RuntimeError if overwrite else ArgumentError):
        main(words)
    (tmp_path / "text.pt").touch()  # of others
    with pytest.raises(ArgumentError, match=r"text\.pt"):
        main(words)


def test_a_model_is_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/open_clip_config.json").touch()
    with pytest.raises(UserError, match="is a model"):
        main(["runs", "a dog", "--out", "out"])


def test_settings_that_no_export_has_are_refused_with_those_that_it_has() -> None:
    with pytest.raises(UserError, match=r"^--refine: .*--prior"):
        main(["a dog", "--out", "out", "--refine", "10", "--prior", "-0.3"])


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ArgumentError) as error:
        main(["--out", str(tmp_path / "out"), "--to", "pt2"])
    assert error.value.argument == "out"


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from pacl.export import main; main(['--help'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
