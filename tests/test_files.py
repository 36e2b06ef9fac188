from __future__ import annotations

import json
from pathlib import Path

import pytest

from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, make_folder, save_json


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert make_folder(folder) == folder


@pytest.mark.parametrize(("place", "argument"), [("file", "out"), ("file/below", "cache")])
def test_a_folder_that_cannot_be_made_is_named_with_its_argument(place: str, argument: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError) as error:
        make_folder(tmp_path / place, argument)
    assert (error.value.argument, error.value.value) == (argument, tmp_path / place)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, temporary.suffix) == (path.parent, ".txt")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail_halfway() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_operating_system_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left on device"), atomic_write(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    with pytest.raises(UserError, match="nnn"), atomic_write(tmp_path / ("n" * 300)) as temporary:
        temporary.touch()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/x"), atomic_write(tmp_path / "file" / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    save_json(tmp_path / "x.json", {"label": "犬", "box": [1, 2]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"label": "犬", "box": [1, 2]}
    assert "犬" in text
    with pytest.raises(ValueError, match="JSON"):
        save_json(tmp_path / "y.json", float("nan"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
