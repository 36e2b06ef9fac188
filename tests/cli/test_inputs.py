from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pacl.cli.inputs import FoundImages, find_images, images_and_prompts, is_result
from pacl.errors import UserError
from pacl.images import save_image


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*words: str, out: str = "out") -> list[tuple[str, str]]:
    return [(str(picture.path), picture.name) for picture in find_images(words, Path(out)).files]


def test_words_are_pictures_by_suffix_separator_or_existence() -> None:
    make("photos/a.jpg", "plain")
    words = ["photos", "x.JPG", "sub/y", "plain", "a dog", "a dog and a cat.", "grass=ground", "p" * 5000, ""]
    pictures, prompts, doubtful = images_and_prompts(words)
    assert pictures == ["photos", "x.JPG", "sub/y", "plain"]
    assert prompts == words[4:]
    assert doubtful == ["plain"]  # a name without a suffix after the first picture may have been meant as a prompt


def test_a_first_plain_name_is_not_doubtful() -> None:
    make("dog/a.jpg")
    assert images_and_prompts(["dog", "grass"]) == (["dog"], ["grass"], [])
    assert images_and_prompts(["x.jpg", "dog"])[2] == ["dog"]


@pytest.mark.parametrize("article", ["a", "An", "the"])
def test_forgotten_quotes_are_refused(article: str) -> None:
    with pytest.raises(UserError) as error:
        images_and_prompts(["photo.jpg", "grass", article, "owl"])
    assert f'"{article} owl"' in str(error.value)
    assert images_and_prompts(["photo.jpg", "owl", article])[1] == ["owl", article]


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


@pytest.mark.parametrize(("words", "repeated"), [(["in/a.jpg", "in/a.jpg"], 1), (["in", "in", "in/b.jpg"], 3)])
def test_a_picture_given_twice_is_said_in_one_line(words: list[str], repeated: int) -> None:
    make("in/a.jpg", "in/b.jpg")
    found = find_images(words)
    assert len(found.repeated) == repeated
    assert len(list(found.notes())) == 1


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


def test_a_model_is_no_folder_of_images(here: Path) -> None:
    make("run/training.png")
    Path("run/open_clip_config.json").touch()
    with pytest.raises(UserError, match="run: is a model"):
        names("run")


@pytest.mark.parametrize(
    ("there", "word"), [("voc.jpg", "vok.jpg"), ("sub/voc.jpg", "sub/voc.jpeg"), ("holiday/a.png", "holidya/")]
)
def test_a_missing_image_comes_with_the_one_that_was_meant(here: Path, there: str, word: str) -> None:
    make(there)
    name = Path(there).name if Path(there).stem == "voc" else "holiday"
    with pytest.raises(UserError, match=f"did you mean '{name}'"):
        names(word)


def test_images_that_are_alike_in_their_ending_only_were_not_meant(here: Path) -> None:
    make("dogchair.jpg")
    with pytest.raises(UserError) as error:
        names("nosuch.jpg")
    assert "dogchair" not in str(error.value)


@pytest.mark.parametrize(
    "word",
    [
        *("a.jfif", "b.HEIC", "my photo.webp", "c.xyz", "clip.mp4", "pages.pdf", "list of labels.txt"),
        *("https://x.org/a", "z.jp2"),
    ],
)
def test_words_that_look_like_files_are_no_prompts(word: str) -> None:
    assert images_and_prompts([word]) == ([word], [], [])
    with pytest.raises(UserError, match=r"no such image or folder|is a URL"):
        names(word)


@pytest.mark.parametrize("word", ["a dog.", "st. bernard", "no.5", "grass", "a dog and a cat. sky", "1.5", "e=mc2"])
def test_other_words_with_full_stops_are_prompts(word: str) -> None:
    assert images_and_prompts([word]) == ([], [word], [])


@pytest.mark.parametrize(
    ("name", "advice"),
    [("a.mp4", "mkdir -p frames && ffmpeg"), ("a.PDF", "pdftoppm"), ("names.txt", "--classes names.txt")],
)
def test_files_of_other_kinds_are_named_with_what_would_work(name: str, advice: str) -> None:
    make(name)
    with pytest.raises(UserError, match=advice):
        names(name)


def test_what_is_left_out_of_a_folder_is_said() -> None:
    make("in/a.jpg", "in/b.HEIC", "in/old/x.json", "in/old/x.overlay.png", "in/old/x.heat-1-a-dog.png", "out/y.png")
    Path("in/link.jpg").symlink_to("a.jpg")
    Path("in/out").symlink_to("../out")
    found = find_images(["in"], Path("out"))
    assert [str(file.path) for file in found.files] == ["in/a.jpg"]
    assert [str(path) for path in found.unread] == ["in/b.HEIC"]
    assert [str(path) for path in found.repeated] == ["in/link.jpg"]
    assert sorted(map(str, found.results)) == ["in/old/x.heat-1-a-dog.png", "in/old/x.overlay.png", "in/out/y.png"]
    assert len(list(found.notes())) == 3
    assert not list(find_images(["in/a.jpg"], Path("out")).notes())


@pytest.mark.parametrize("count", [1, 2])
def test_one_thing_that_is_left_out_has_no_plural(count: int) -> None:
    paths = [Path(f"{i}.png") for i in range(count)]
    result, path = FoundImages(results=paths, repeated=paths).notes()
    assert (" 1 result " in result, " 2 results " in result) == (count == 1, count == 2)
    assert (" 1 path " in path, " 2 paths " in path) == (count == 1, count == 2)


def test_results_are_known_without_their_record_and_others_are_not_taken_for_them() -> None:
    save_image("a.overlay.png", np.zeros((8, 8, 3), np.uint8))
    make("b.overlay.png", "c.mask.png", "c.json", "d.mask.jpg", "mask.png")
    files = ("a.overlay.png", "b.overlay.png", "c.mask.png", "d.mask.jpg", "mask.png")
    assert [name for name in files if is_result(Path(name))] == ["a.overlay.png", "c.mask.png"]


def test_a_result_that_is_named_is_an_image_all_the_same() -> None:
    make("a.json", "a.mask.png")
    assert names("a.mask.png") == [("a.mask.png", "a.mask")]


def test_a_folder_of_results_or_of_files_that_are_not_read_is_refused() -> None:
    make("own/a.json", "own/a.mask.png", "phone/a.HEIC", "phone/b.HEIC")
    for word, message in (("own", "results"), ("phone", r"2 files not read, by their names: a\.HEIC, b\.HEIC")):
        with pytest.raises(UserError, match=message):
            names(word)


def test_the_place_of_an_image_is_its_path_in_the_folder_where_that_is_unique() -> None:
    make("a/x.jpg", "a/sub/y.jpg", "b/x.jpg")
    found = find_images(["a", "b"], Path("out"))
    assert [file.relative for file in found.files] == ["sub/y.jpg", "a/x.jpg", "b/x.jpg"]


def test_no_record_takes_the_name_of_the_runs_own_files() -> None:
    make("annotations.jpg", "annotations-image.jpg")
    assert names("annotations.jpg", "annotations-image.jpg") == [
        ("annotations.jpg", "annotations-image"),
        ("annotations-image.jpg", "annotations-image_jpg"),
    ]


@pytest.mark.parametrize("folder", ["labelme", "yolo/labels", "mmseg/ann_dir", "MMseg"])
def test_no_result_lies_in_a_folder_of_a_data_set(folder: str) -> None:
    make(f"in/{folder}/x.jpg", "in/deep/labelme/x.jpg", "in/yolo.jpg")
    first, slash, rest = folder.partition("/")
    assert dict(names("in")) == {
        f"in/{folder}/x.jpg": f"{first}-image{slash}{rest}/x",
        "in/deep/labelme/x.jpg": "deep/labelme/x",
        "in/yolo.jpg": "yolo",
    }


def test_links_that_lead_nowhere_stop_nothing() -> None:
    make("in/a.jpg")
    for name, target in (("b.jpg", "b.jpg"), ("c.jpg", "gone.jpg")):
        (Path("in") / name).symlink_to(target)
    assert names("in") == [("in/a.jpg", "a"), ("in/b.jpg", "b"), ("in/c.jpg", "c")]
