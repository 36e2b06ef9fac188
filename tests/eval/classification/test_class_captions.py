"""Captions from ImageNet's class names."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from PIL import Image

from eval.classification import class_captions
from pacl.cli.messages import run_verb
from pacl.data.readers import read_table
from pacl.errors import UserError

CRANE_BIRD, CRANE_MACHINE, TENCH = "n02012849", "n03126707", "n01440764"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three classes with both kinds of names, some in subfolders, and a file that is not an image."""
    root = tmp_path / "photos"
    for name in (f"{TENCH}_tench.JPEG", f"{CRANE_BIRD}_10026.png", f"val/b/{CRANE_MACHINE}_1_2.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    (root / "README.txt").write_text("about")
    (root / ".hidden.jpg").touch()
    return root


def run(*words: str | Path) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as stop:
        run_verb("eval.classification.class_captions", lambda: class_captions.main([str(word) for word in words]))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def rows_of(table: Path) -> list[list[str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_an_image_has_its_class_name_and_definition(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--out", tmp_path / "new" / "t.csv") == 0
    header, *rows = rows_of(tmp_path / "new" / "t.csv")
    assert header == ["image", "caption"]
    images = [f"{TENCH}_tench.JPEG", f"{CRANE_BIRD}_10026.png", f"val/b/{CRANE_MACHINE}_1_2.jpg"]
    assert [image for image, _ in rows] == [image for image in images for _ in range(2)]
    captions = [caption for _, caption in rows]
    # Only the first of the class's names, and the definition without the names.
    assert captions[0] == "a photo of a tench."
    assert captions[1].startswith("tench, freshwater dace-like game fish")
    assert "Tinca" not in captions[1]
    # Two classes with the same name have different definitions.
    assert captions[2] == captions[4] == "a photo of a crane."
    assert captions[3].startswith("crane, ")
    assert "wading bird" in captions[3]
    assert "lifts and moves heavy objects" in captions[5]


def test_the_table_is_what_training_reads(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--out", tmp_path / "t.csv") == 0
    pairs = read_table(tmp_path / "t.csv", folder)
    assert len(pairs) == 3
    assert all(Path(pairs.name(index)).is_file() for index in range(3))
    read = [(pairs.name(i), text) for i in range(3) for text, _ in pairs.descriptions(i)]
    assert read == [(str(folder / image), text) for image, text in class_captions.class_captions(folder)]


def test_a_second_run_replaces_the_table(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--out", tmp_path / "t.csv") == 0
    first = (tmp_path / "t.csv").read_bytes()
    assert run(folder, "--out", tmp_path / "t.csv") == 0
    assert (tmp_path / "t.csv").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "t.csv"}


def test_a_table_of_the_user_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,a photo of a dog.\n")
    with pytest.raises(UserError):
        class_captions.main([str(folder), "--out", str(tmp_path / "t.csv")])
    assert "a.jpg" in (tmp_path / "t.csv").read_text()


@pytest.mark.parametrize("name", ["tench.jpg", f"{TENCH}.jpg", "n00000000_1.jpg", f"x{TENCH}_1.jpg"])
def test_an_image_without_a_class_is_an_error_and_nothing_is_written(folder: Path, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(folder / "val" / name)
    with pytest.raises(UserError, match=name):
        class_captions.main([str(folder), "--out", str(tmp_path / "t.csv")])
    assert not (tmp_path / "t.csv").exists()


def test_a_name_that_is_not_utf8_is_refused(folder: Path, tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + f"/{TENCH}_".encode() + b"\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    assert run(folder, "--out", tmp_path / "t.csv") == 2
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("case", ["missing", "file", "empty", "no_out", "out_is_folder", "below_a_file", "option"])
def test_bad_input_is_one_line_and_exit_code_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    out = ("--out", tmp_path / "t.csv")
    words: dict[str, tuple[str | Path, ...]] = {
        "missing": (tmp_path / "absent", *out),
        "file": (tmp_path / "file.txt", *out),
        "empty": (tmp_path / "empty", *out),
        "no_out": (folder,),
        "out_is_folder": (folder, "--out", tmp_path / "empty"),
        "below_a_file": (folder, "--out", tmp_path / "file.txt" / "t.csv"),
        "option": (folder, *out, "--otu", "x"),
    }
    before = sorted(tmp_path.rglob("*"))
    assert run(*words[case]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("eval.classification.class_captions: error: ")
    assert sorted(tmp_path.rglob("*")) == before
