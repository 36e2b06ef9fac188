"""The command as its user meets it: a drawn matrix, a CSV file, and exit codes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pacl import classify
from pacl.classification.scorer import score_images
from pacl.models.loading import load_model
from pacl.similarity import MOST, build_parser, is_own_table, main, write_table
from tests.colours import noise
from tests.commands import Run, runner


@pytest.fixture(autouse=True)
def here(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own that holds photo.png and b/other.png."""
    monkeypatch.chdir(photo.parent)
    Path("b").mkdir()
    Image.fromarray(noise(64, 40)).save("b/other.png")
    return photo.parent


@pytest.fixture
def run(tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the tiny CLIP: (exit code, standard output, standard error)."""
    return runner("pacl similarity", main, tiny_clip, capsys)


WORDS = ("--images", "photo.png", "b", "--texts", "dog", "cat, or not=x", "lamp")


def test_the_default_precision_is_not_that_of_a_probe() -> None:
    """Only `pacl classify` takes probes."""
    helps = [
        action.help
        for parser in (build_parser(), classify.build_parser())
        for action in parser._actions
        if action.dest == "precision"
    ]
    assert ["probe" in str(text) for text in helps] == [False, True]


def test_by_default_a_drawing(run: Run, here: Path) -> None:
    code, out, err = run(*WORDS)
    assert (code, err) == (0, "")
    assert "similarity.png" in out
    assert [row.partition(":")[0] for row in out.splitlines()[:2]] == ["photo.png", "b/other.png"]
    assert {path.name for path in here.iterdir()} == {"photo.png", "b", "similarity.png"}
    assert np.asarray(Image.open("similarity.png")).ndim == 3


@pytest.mark.parametrize("score", ["clip", "phi", "both"])
def test_csv_has_the_numbers_of_the_library(run: Run, tiny_clip: str, here: Path, score: str) -> None:
    code, _, err = run(*WORDS, "--csv", "new/scores.csv", "--score", score, "--templates", "photo")
    assert (code, err) == (0, "")
    assert not Path("similarity.png").exists()
    head, *rows = csv.reader(Path("new/scores.csv").read_text(encoding="utf-8").splitlines())
    texts = ["dog", "cat, or not=x", "lamp"]
    assert head == ["image", *texts]
    assert [row[0] for row in rows] == ["photo.png", "b/other.png"]
    expected = score_images(load_model(tiny_clip), ["photo.png", "b/other.png"], texts, score, templates="photo")  # type: ignore[arg-type]
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("flag", [["--csv"], ["--csv", "-"]])
def test_csv_without_a_file_is_printed(run: Run, here: Path, flag: list[str]) -> None:
    assert run(*WORDS, "--csv", "scores.csv")[0] == 0
    code, out, err = run(*WORDS, *flag)
    assert (code, err) == (0, "")
    assert out == Path("scores.csv").read_text(encoding="utf-8")
    assert not Path("-").exists()
    assert not Path("similarity.png").exists()


def test_the_same_command_gives_the_same_files(run: Run) -> None:
    words = (*WORDS, "--maps", "--out", "a.png", "--csv", "a.csv")
    assert run(*words)[0] == 0
    first = [Path(name).read_bytes() for name in ("a.png", "a.csv")]
    run(*words)
    assert [Path(name).read_bytes() for name in ("a.png", "a.csv")] == first


@pytest.mark.parametrize(("flag", "name"), [("--out", "mine.png"), ("--out", "mine.jpg"), ("--csv", "mine.csv")])
def test_a_file_of_others_is_replaced_with_overwrite_only(run: Run, flag: str, name: str) -> None:
    Path(name).write_bytes(b"mine")
    code, _, err = run(*WORDS, flag, name)
    assert code == 2
    assert f"{flag} {name}:" in err
    assert Path(name).read_bytes() == b"mine"
    assert run(*WORDS, flag, name, "--overwrite")[0] == 0
    assert Path(name).read_bytes() != b"mine"
    assert run(*WORDS, flag, name)[0] == 0  # its own file is refreshed


def test_maps_make_the_drawing_taller(run: Run) -> None:
    run(*WORDS)
    run(*WORDS, "--maps", "--out", "maps.jpg")
    with Image.open("similarity.png") as plain, Image.open("maps.jpg") as maps:
        assert maps.format == "JPEG"
        assert maps.height > plain.height
        assert maps.width == plain.width


def test_csv_takes_any_number_and_a_drawing_some(run: Run) -> None:
    texts = [f"thing {i}" for i in range(MOST + 1)]
    words = ("--images", "photo.png", "--texts", *texts)
    assert run(*words, "--csv", "a.csv")[0] == 0
    assert len(Path("a.csv").read_text().splitlines()[0].split(",")) == MOST + 2
    code, _, err = run(*words, "--csv", "b.csv", "--out", "b.png")
    assert (code, len(err.splitlines())) == (2, 1)
    assert not Path("b.csv").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--texts", "dog"],
        ["--images", "photo.png"],
        ["--images", "photo.png", "--texts", "dog", ""],
        ["--images", "missing.png", "--texts", "dog"],
        ["--images", "photo.png", "--texts", "dog", "--out", "b"],
        ["--images", "photo.png", "--texts", "dog", "--out", "a.gif"],
        ["--images", "photo.png", "--texts", "dog", "--out", "-"],
        ["--images", "photo.png", "--texts", "dog", "--out", "photo.png"],
        ["--images", "photo.png", "--texts", "dog", "--csv", "photo.png"],
        ["--images", "photo.png", "--texts", "dog", "--csv", "photo.png/a.csv"],
        ["--images", "photo.png", "--texts", "dog", "--csv", "a.csv", "--maps"],
        ["--images", "photo.png", "--texts", "dog", "--out", "a.png", "--csv", "a.png"],
        ["--images", "photo.png", "--texts", "dog", "--score", "cosine"],
        ["--images", "photo.png", "--texts", "dog", "--weight", "0.2"],
        ["--images", "photo.png", "--texts", "dog", "--dense", "clip"],
        ["--images", "photo.png", "--texts", "word " * 40],
        ["photo.png", "--texts", "dog"],
    ],
)
def test_mistakes_are_one_line_and_write_nothing(run: Run, here: Path, words: list[str]) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*.png")}
    code, out, err = run(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("pacl similarity: error: ")
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_a_bad_image_among_several_writes_nothing(run: Run, here: Path) -> None:
    Path("b/broken.png").write_bytes(b"not an image")
    code, out, err = run(*WORDS)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "broken.png" in err
    assert not Path("similarity.png").exists()


def test_an_image_that_is_named_twice_is_one_row_and_said(run: Run) -> None:
    code, out, err = run("--images", "photo.png", "photo.png", "./photo.png", "--texts", "a dog", "--csv")
    assert (code, len(out.splitlines()), len(err.splitlines())) == (0, 2, 1)


def test_a_score_that_the_model_has_not_is_refused(run: Run) -> None:
    code, _, err = run(*WORDS, "--score", "clip", model="photos")
    assert (code, len(err.splitlines())) == (2, 1)


def test_every_option_has_a_help() -> None:
    for action in build_parser()._actions:
        assert action.help, action.option_strings


def test_other_tables_are_no_table_of_these_scores(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    with own.open("w", encoding="utf-8", newline="") as file:
        write_table(file, ["a,b.jpg"], ['a "dog", and\na cat', "x"], np.array([[-0.25, 1]]))
    texts = ['a "dog", and\na cat', "x"]
    assert is_own_table(own, texts)
    assert not is_own_table(own, texts[::-1])
    for text in (
        "image,aesthetic\n1.jpg,0.123456\n",
        "image,caption\n1.jpg,A dog runs.\n",
        "image,score\n1.jpg,5\n",
        "image,a dog\n",
        "image\na\n",
        "",
        "\xff",
    ):
        (tmp_path / "other.csv").write_text(text, encoding="latin-1")
        assert not is_own_table(tmp_path / "other.csv", texts)
