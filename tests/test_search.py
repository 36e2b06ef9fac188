"""The command as its user meets it: ranked images, a contact sheet, and exit codes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pacl.index.image_index import Index
from pacl.index.place import FOLDER
from pacl.locks import lock
from pacl.search import MOST, build_parser, main
from tests.colours import noise
from tests.commands import Run, runner


@pytest.fixture(autouse=True)
def here(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own that holds photos/photo.png, photos/b/wide.png and query.png."""
    folder = photo.parent / "photos"
    (folder / "b").mkdir(parents=True)
    photo.rename(folder / "photo.png")
    Image.fromarray(noise(24, 64)).save(folder / "b" / "wide.png")
    Image.fromarray(noise(50, 40)).save(photo.parent / "query.png")
    (photo.parent / "empty").mkdir()
    monkeypatch.chdir(photo.parent)
    return photo.parent


@pytest.fixture
def run(tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the tiny CLIP: (exit code, standard output, standard error)."""
    return runner("pacl search", main, tiny_clip, capsys)


def rows(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(out.splitlines()))


def test_an_odd_name_stays_in_its_line(run: Run, here: Path) -> None:
    (here / "photos" / "photo.png").rename(here / "photos" / "a\x1b[2J\nb.png")
    code, out, _ = run("photos", "a dog")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "\x1b" not in out
    assert "photos/a\\x1b[2J\\nb.png" in out


def test_the_new_index_is_named_by_the_folder_as_it_was_typed(run: Run, here: Path) -> None:
    folder = Path("..", here.name, "photos")
    _, _, err = run(str(folder), "a dog")
    assert f" {folder / FOLDER}/" in err


def test_the_index_of_another_folder_is_not_called_one_of_another_model(run: Run) -> None:
    _, _, first = run("photos", "a dog", "--index", "kept")
    _, _, second = run("photos/b", "a dog", "--index", "kept")
    assert ("beside" in first, "beside 1 of other folders" in second) == (False, True)


def test_a_table_by_default_and_an_index_beside_the_images(run: Run, here: Path) -> None:
    code, out, _ = run("photos", "a dog")
    assert code == 0
    assert {line.split()[-1] for line in out.splitlines()[1:]} == {"photos/photo.png", "photos/b/wide.png"}
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["1", "2"]
    assert len(list((here / "photos" / FOLDER).glob("*.sqlite"))) == 1
    code, again, err = run("photos", "a dog")
    assert (code, again, err) == (0, out, "")


def test_a_name_with_control_characters_is_a_line_of_the_table(run: Run, here: Path) -> None:
    shutil.copy("photos/photo.png", "photos/two\nlines\x1b[31m.png")
    code, out, _ = run("photos", "a dog", "--out", "sheet\x1b[31m.png")
    assert code == 0
    assert len(out.splitlines()) == 5  # a header, three images and the sheet
    assert "\x1b" not in out


@pytest.mark.parametrize("score", ["clip", "phi", "both"])
def test_csv_and_json_have_the_numbers_of_the_library(run: Run, tiny_clip: str, score: str) -> None:
    code, out, _ = run("photos", "a dog", "--csv", "--score", score, "--templates", "photo")
    assert code == 0
    expected = Index.open("photos", tiny_clip, score, templates="photo").search("a dog")  # type: ignore[arg-type]
    assert [(int(r["rank"]), float(r["score"]), Path(r["image"])) for r in rows(out)] == [
        (hit.rank, hit.score, hit.path.relative_to(Path.cwd())) for hit in expected
    ]
    _, out, _ = run("photos", "a dog", "--json", "--score", score, "--templates", "photo", "--top", "1")
    [record] = [json.loads(line) for line in out.splitlines()]
    assert record == {"rank": 1, "score": expected[0].score, "image": str(expected[0].path.relative_to(Path.cwd()))}


def test_an_image_is_searched_for_too(run: Run) -> None:
    code, out, _ = run("photos", "photos/b/wide.png", "--csv", "--out", "found.png")
    assert code == 0
    assert rows(out)[0]["image"] == "photos/b/wide.png"
    assert float(rows(out)[0]["score"]) == pytest.approx(1, abs=1e-5)
    assert Image.open("found.png").size[1] > 256


def test_a_contact_sheet_is_the_same_every_time_and_never_searched(run: Run) -> None:
    for name in ("one.png", "two.png"):
        assert run("photos", "a dog;a puppy", "--out", name)[0] == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert run("photos", "a dog", "--out", "photos/sheet.jpg")[0] == 0
    assert run("photos", "a dog", "--out", "photos/sheet.jpg")[0] == 0  # an own drawing may be replaced
    assert run("photos", "photos/sheet.jpg", "--out", "photos/sheet.jpg")[0] == 2  # but not that which is searched for
    _, out, _ = run("photos", "a dog", "--csv")
    assert sorted(row["image"] for row in rows(out)) == ["photos/b/wide.png", "photos/photo.png"]


def test_a_text_that_looks_like_a_file(run: Run) -> None:
    assert run("photos", "query.png", "--csv")[0] == 0
    assert run("photos", "dog.png")[0] == 2
    assert run("photos", "--prompt", "dog.png", "--csv")[0] == 0


def test_no_update_searches_what_is_there(run: Run) -> None:
    code, out, err = run("photos", "a dog", "--no_update")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    run("photos", "a dog", "--index", "kept")
    Image.fromarray(noise(30, 30)).save("photos/new.png")
    assert len(rows(run("photos", "a dog", "--csv", "--index", "kept", "--no_update")[1])) == 2
    assert len(rows(run("photos", "a dog", "--csv", "--index", "kept")[1])) == 3
    assert not (Path("photos") / FOLDER).exists()
    Path("photos/new.png").unlink()
    code, out, err = run("photos", "a dog", "--csv", "--index", "kept", "--no_update")
    assert (code, len(rows(out)), len(err.splitlines())) == (0, 2, 1)
    shutil.rmtree("photos/b")
    Path("photos/photo.png").unlink()
    code, out, err = run("photos", "a dog", "--index", "kept", "--no_update", "--out", "sheet.png")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert not Path("sheet.png").exists()


def test_links_to_an_image_are_one_image(run: Run) -> None:
    Path("photos/z.png").symlink_to("photo.png")
    Path("photos/z").symlink_to("b")
    _, out, err = run("photos", "a dog", "--csv")
    assert sorted(row["image"] for row in rows(out)) == ["photos/b/wide.png", "photos/photo.png"]
    assert len([line for line in err.splitlines() if "left out 2 paths" in line]) == 1


def test_a_second_process_is_told_of_the_flag_that_helps(run: Run) -> None:
    assert run("photos", "a dog")[0] == 0
    (index,) = Path("photos/.pacl_index").glob("*.sqlite")
    with lock(f"{index}.lock", ""):
        code, out, err = run("photos", "a dog")
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "--no_update" in err
        assert "--index" not in err
        assert run("photos", "a dog", "--no_update")[0] == 0


def test_images_that_cannot_be_read_are_named(run: Run) -> None:
    for n in range(7):
        Path(f"photos/broken{n}.png").write_bytes(b"no image")
    code, out, err = run("photos", "a dog", "--csv")
    assert (code, len(rows(out))) == (1, 2)
    assert sum(line.startswith("pacl search: error: ") for line in err.splitlines()) == 6
    assert "broken0.png" in err


def test_a_folder_of_broken_images_is_refused(run: Run) -> None:
    Path("empty/broken.png").write_bytes(b"no image")
    code, out, err = run("empty", "a dog")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("pacl search: error: ")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["photos"],
        ["missing", "a dog"],
        ["query.png", "a dog"],
        ["empty", "a dog"],
        ["photos", "a", "dog"],
        ["photos", "query.png", "a dog", "a cat"],
        ["photos", "missing.png"],
        ["photos", "empty"],
        ["photos", ""],
        ["photos", "word " * 40],
        ["photos", "a dog", "--top", "0"],
        ["photos", "a dog", "--rerank", "0", "--score", "phi"],
        ["photos", "a dog", "--rerank", "5"],
        ["photos", "a dog", "--patches", "recompute"],
        ["photos", "query.png", "--rerank", "5", "--score", "phi"],
        ["photos", "query.png", "--templates", "photo"],
        ["photos", "query.png", "--score", "both", "--weight", "0.9"],
        ["photos", "a dog", "--dense", "sclip"],
        ["photos", "a dog", "--out", "empty"],
        ["photos", "a dog", "--out", "a.gif"],
        ["photos", "a dog", "--out", "query.png"],
        ["photos", "a dog", "--out", "photos/photo.png"],
        ["photos", "a dog", "--out", "a.png", "--top", str(MOST + 1)],
        ["photos", "a dog", "--index", "query.png"],
        ["photos", "a dog", "--score", "cosine"],
        ["photos", "a dog", "--json", "--csv"],
    ],
)
def test_mistakes_are_one_line_and_write_nothing(run: Run, here: Path, words: list[str]) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    code, out, err = run(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("pacl search: error: ")
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("model", ["no-such-model", "photos"])
def test_a_model_that_there_is_not_or_without_the_score_is_refused(run: Run, model: str) -> None:
    code, out, err = run("photos", "a dog", "--score", "clip", model=model)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_every_option_has_a_help() -> None:
    for action in build_parser()._actions:
        assert action.help, action.option_strings
