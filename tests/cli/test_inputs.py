from __future__ import annotations

from pathlib import Path

import pytest

from pacl.cli.inputs import find_images, split_words
from pacl.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*words: str, out: str = "out") -> list[tuple[str, str]]:
    return [(str(picture.path), picture.name) for picture in find_images(words, Path(out))]


def test_words_are_pictures_by_suffix_separator_or_existence() -> None:
    make("photos/a.jpg", "plain")
    words = ["photos", "x.JPG", "sub/y", "plain", "a dog", "a dog and a cat.", "grass=ground", "p" * 5000, ""]
    pictures, prompts, doubtful = split_words(words)
    assert pictures == ["photos", "x.JPG", "sub/y", "plain"]
    assert prompts == words[4:]
    assert doubtful == ["plain"]  # a name without a suffix after the first picture may have been meant as a prompt


def test_a_first_plain_name_is_not_doubtful() -> None:
    make("dog/a.jpg")
    assert split_words(["dog", "grass"]) == (["dog"], ["grass"], [])
    assert split_words(["x.jpg", "dog"])[2] == ["dog"]


def test_a_folder_is_searched_with_its_subfolders_in_order() -> None:
    make("in/b.png", "in/a.jpg", "in/sub/c.webp", "in/.hidden.jpg", "in/.git/d.jpg", "in/notes.txt")
    assert names("in") == [("in/a.jpg", "a"), ("in/b.png", "b"), ("in/sub/c.webp", "sub/c")]


def test_results_are_never_taken_for_pictures() -> None:
    make("in/a.jpg", "in/out/a.overlay.png", "only/out/a.overlay.png")
    assert names("in", out="in/out") == [("in/a.jpg", "a")]
    with pytest.raises(UserError, match="only: "):
        names("only", out="only/out")
    with pytest.raises(UserError, match="out in:"):
        names("in", out="in")


def test_names_of_results_never_collide() -> None:
    make("a/x.jpg", "b/x.jpg", "c/X.jpg", "c/x.png", "c/x-2.jpg", "d/x_jpg.jpg", "noend")
    found = names("a/x.jpg", "b/x.jpg", "c", "d", "noend")
    assert [name for _, name in found] == ["x", "x_jpg", "X_jpg-2", "x-2", "x_png", "x_jpg_jpg", "noend"]
    assert len({name.casefold() for _, name in found}) == len(found)
    assert names("a/x.jpg", "b/x.jpg", "c", "d", "noend") == found  # and are the same the next time


def test_a_picture_given_twice_counts_once() -> None:
    make("in/a.jpg", "in/b.jpg")
    assert names("in/b.jpg", "in", "./in/../in/a.jpg") == [("in/b.jpg", "b"), ("in/a.jpg", "a")]


def test_names_stay_inside_the_folder_of_results(here: Path) -> None:
    make("deep/er/in.jpg", "..jpg", "deep/...png")
    for _, name in names("deep/er/../er/in.jpg", str(here / "..jpg"), "deep/er/../../deep"):
        for ending in ("overlay.png", "json"):
            path = (here / "out" / f"{name}.{ending}").resolve()
            assert (here / "out") in path.parents


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("missing.jpg", "missing.jpg: no such image or folder; if it is a prompt, write --prompt 'missing.jpg'"),
        ("sub/missing", "sub/missing: no such image"),
        ("empty", "empty has no images"),
        ("/dev/null", "/dev/null: is neither a file nor a folder"),
    ],
)
def test_what_is_not_there_is_named(word: str, message: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(UserError, match=message):
        names(word)
