from pathlib import Path

import pytest

from pacl.data.image_paths import locate, similar_file
from pacl.errors import UserError


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.jpg", "x/b.png"], ["a.jpg", "x/b.png"]),
        (["x\\b.png", "a.jpg"], ["x/b.png", "a.jpg"]),
        (["C:\\data\\photos\\x\\b.png", "C:\\data\\photos\\a.jpg"], ["x/b.png", "a.jpg"]),
        (["/home/me/photos/x/b.png", "/home/me/photos/lost.png"], ["x/b.png", "lost.png"]),
        (["photos/a.jpg"], ["a.jpg"]),
        (["a", "x/b", "lost"], ["a.jpg", "x/b.png", "lost"]),
        (["b"], ["x/b.png"]),
        (["https://x.org/p/a.jpg?w=9#top", "https://x.org/c%20d.jpg"], ["a.jpg", "c d.jpg"]),
        (["https://x.org/c%20d.jpg"], ["c d.jpg"]),
    ],
)
def test_names_written_elsewhere(tmp_path, draw, names, found):
    draw("a.jpg", "x/b.png", "c d.jpg")
    folder, captions = locate(tmp_path / "t.csv", None, {name: [name] for name in names})
    assert folder == tmp_path
    assert captions == dict(zip(found, ([name] for name in names), strict=True))


def test_absolute_paths(tmp_path, draw):
    draw("deep/a.jpg")
    path = str(tmp_path / "deep" / "a.jpg")
    assert locate(tmp_path / "t.csv", None, {path: ["x"]})[1] == {path: ["x"]}


def test_a_named_folder_wins_over_absolute_paths(tmp_path, draw):
    draw("original/x/a.jpg", "small/x/a.jpg", "other/b.jpg")
    path = str(tmp_path / "original/x/a.jpg")
    captions = {path: ["x"]}
    assert locate(tmp_path / "t.csv", tmp_path / "small", captions) == (tmp_path / "small", {"x/a.jpg": ["x"]})
    assert locate(tmp_path / "t.csv", tmp_path / "original", captions)[1] == captions  # they lie there
    for folder, names in (
        ("other", [path]),
        ("other", ["b.jpg", path]),
        ("small", [f"{tmp_path}/small/../other/b.jpg"]),
    ):
        with pytest.raises(UserError) as error:  # also where most of the names are in the folder
            locate(tmp_path / "t.csv", tmp_path / folder, {name: ["x"] for name in names})
        assert error.value.advised == ("images",)
    lost = {"b.jpg": ["x"], "/nowhere/a.jpg": ["x"]}
    assert locate(tmp_path / "t.csv", tmp_path / "other", lost)[1] == lost  # and is counted as missing


def test_a_deep_path_of_another_computer_is_found(tmp_path, draw):
    draw("photos/a.jpg")
    deep = "/home/me/docs/projects/2026/data/images/train/photos/a.jpg"
    assert locate(tmp_path / "t.csv", tmp_path, {deep: ["x"]})[1] == {"photos/a.jpg": ["x"]}


def test_spellings_of_one_file_are_one_image(tmp_path, draw, monkeypatch):
    draw("train/a.jpg", "train/b.jpg")
    monkeypatch.chdir(tmp_path)
    names = ["train/a.jpg", "train/../train/a.jpg", str(tmp_path / "train" / "a.jpg"), "./train//a.jpg", "train/b.jpg"]
    for images in (None, tmp_path, Path()):
        _, captions = locate(Path("t.csv"), images, {name: [name] for name in names})
        assert captions == {"train/a.jpg": names[:4], "train/b.jpg": names[4:]}


def test_names_that_no_file_can_have(tmp_path, draw):
    draw("a.jpg")
    names = ["a.jpg", "a caption in the wrong column " * 20, "nul\0.jpg"]
    folder, captions = locate(tmp_path / "t.csv", tmp_path, {name: ["x"] for name in names})
    assert (folder, list(captions)) == (tmp_path, names)
    with pytest.raises(UserError):
        locate(tmp_path / "t.csv", None, {name: ["x"] for name in names[1:]})


def test_two_names_of_one_file_are_refused(tmp_path, draw):
    draw("a.jpg")
    with pytest.raises(UserError, match=r"p/a\.jpg and q/a\.jpg"):
        locate(tmp_path / "t.csv", None, {"p/a.jpg": ["x"], "q/a.jpg": ["y"]})


def test_a_name_without_suffix_that_fits_two_files_is_refused(tmp_path, draw):
    draw("a.jpg", "a.png", "b.jpg", "x/c.jpg", "y/c.jpg")
    with pytest.raises(UserError, match=r"t\.csv: a may be a\.jpg or a\.png"):
        locate(tmp_path / "t.csv", None, {"b": ["x"], "a": ["y"]})
    for names in (["b", "c"], ["c"]):
        with pytest.raises(UserError, match=r"t\.csv: c may be x/c\.jpg or y/c\.jpg"):
            locate(tmp_path / "t.csv", None, {name: ["x"] for name in names})
    assert locate(tmp_path / "t.csv", None, {"b": ["x"], "x/c": ["y"]})[1] == {"b.jpg": ["x"], "x/c.jpg": ["y"]}


def test_names_without_suffix_that_one_folder_has_once_are_found_there(tmp_path, draw):
    draw("images/a.jpg", "images/b.jpg", "small/a.jpg")
    folder, captions = locate(tmp_path / "t.csv", None, {"a": ["x"], "b": ["y"]})
    assert (folder, captions) == (tmp_path / "images", {"a.jpg": ["x"], "b.jpg": ["y"]})


def test_another_suffix_or_case_is_named(tmp_path, draw):
    draw("a.jpg")
    for name in ("a.png", "A.JPG"):
        assert similar_file(tmp_path / name) == tmp_path / "a.jpg"
        with pytest.raises(UserError, match=r"a\.jpg"):
            locate(tmp_path / "t.csv", None, {name: ["x"]})
    assert similar_file(tmp_path / "b.jpg") is None
    with pytest.raises(UserError, match="download"):
        locate(tmp_path / "t.csv", None, {"https://x.org/b.jpg": ["x"]})
