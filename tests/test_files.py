from __future__ import annotations

from pathlib import Path

import pytest

from pacl.errors import UserError
from pacl.files import make_folder, written_whole


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert make_folder(folder) == folder


def test_a_folder_that_cannot_be_is_named_with_its_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out .*file: is a file; choose a folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"--to .*: cannot write there \(Not a directory\)"):
        make_folder(tmp_path / "file" / "below", flag="--to")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.txt"
    with written_whole(path) as aside:
        aside.write_text("new")
        assert aside.suffix == ".txt"
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_old_file_outlives_a_failed_one(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail_halfway() -> None:
        with written_whole(path) as aside:
            aside.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"),
        written_whole(tmp_path / "x"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(UserError, match="cannot be written"), written_whole(tmp_path / ("n" * 300)) as aside:
        aside.touch()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), written_whole(tmp_path / "file" / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
