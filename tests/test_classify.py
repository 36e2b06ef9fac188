"""The command as its user meets it: a table, JSON or CSV out, and exit codes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from pacl.classification.scorer import classify_images, score_images
from pacl.classify import build_parser, main
from pacl.cli.image_scores import SCORES
from pacl.models.loading import load_model
from tests.commands import Run, runner


@pytest.fixture(autouse=True)
def here(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own that holds photo.png."""
    monkeypatch.chdir(photo.parent)
    return photo.parent


@pytest.fixture
def run(tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the tiny CLIP: (exit code, standard output, standard error)."""
    return runner("pacl classify", main, tiny_clip, capsys)


@pytest.mark.parametrize("score", SCORES)
def test_json_has_the_numbers_of_the_library(run: Run, tiny_clip: str, score: str) -> None:
    code, out, err = run("photo.png", "dog", "cat=animal", "--json", "--score", score, "--templates", "photo")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["image"], record["score"]) == ("photo.png", score)
    model = load_model(tiny_clip)
    how = {"score": score, "templates": "photo"}
    probabilities = classify_images(model, ["photo.png"], ["dog", "cat=animal"], **how)[0].tolist()  # type: ignore[arg-type]
    scores = score_images(model, ["photo.png"], ["dog", "cat"], **how)[0].tolist()  # type: ignore[arg-type]
    expected = dict(zip(["dog", "animal"], zip(probabilities, scores, strict=True), strict=True))
    assert {each["label"] for each in record["labels"]} == set(expected)
    for each in record["labels"]:
        assert (each["probability"], each["score"]) == pytest.approx(expected[each["label"]], abs=1e-6)
    assert record["labels"][0]["probability"] == max(each["probability"] for each in record["labels"])


def test_csv_is_a_line_a_label_and_top_keeps_the_best(run: Run) -> None:
    shutil.copy("photo.png", "other.png")
    words = ("photo.png", "other.png", "dog", "a, b", "lamp")
    _, out, _ = run(*words, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["image"]) for row in rows] == ["photo.png"] * 3 + ["other.png"] * 3
    assert {row["label"] for row in rows} == {"dog", "a, b", "lamp"}
    code, out, err = run(*words, "--csv", "--top", "1")
    assert (code, err) == (0, "")
    assert list(csv.DictReader(io.StringIO(out))) == [rows[0], rows[3]]


def test_the_table_shows_the_most_probable_labels(run: Run) -> None:
    labels = [f"thing {i}" for i in range(8)]
    _, out, _ = run("photo.png", *labels, "--json")
    ranked = [each["label"] for each in json.loads(out)["labels"]]
    code, out, err = run("photo.png", *labels)
    assert (code, err) == (0, "")
    shown = [next(label for label in labels if label in row) for row in out.splitlines()[2:]]
    assert shown == ranked[:5]
    assert len(run("photo.png", *labels, "--top", "8")[1].splitlines()) == 10


def test_the_same_command_gives_the_same_output(run: Run) -> None:
    words = ("photo.png", "dog", "cat", "--csv", "--score", "both")
    assert run(*words) == run(*words)


def test_classes_file_with_synonyms(run: Run) -> None:
    Path("classes.txt").write_text("cat;kitten\na dog=dog  # mine\n")
    code, out, _ = run("photo.png", "--classes", "classes.txt", "--prompt", "b.png", "--json")
    assert code == 0
    assert {each["label"] for each in json.loads(out)["labels"]} == {"cat", "dog", "b.png"}


def test_a_folder_goes_on_after_a_bad_file(run: Run, here: Path) -> None:
    (here / "photos").mkdir()
    for i in range(20):  # more than a batch
        shutil.copy("photo.png", f"photos/{i:02}.png")
    Path("photos/07.png").write_bytes(b"not an image")
    code, out, err = run("photos", "dog", "cat", "--json")
    assert code == 1
    images = [json.loads(row)["image"] for row in out.splitlines()]
    assert images == [f"photos/{i:02}.png" for i in range(20) if i != 7]
    assert "07.png" in err.splitlines()[0]
    lines = run("photos", "dog", "cat")[1].splitlines()
    assert [row.partition(":")[0] for row in lines] == images


def test_out_of_memory_takes_images_one_by_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pacl.classification import scorer

    shutil.copy("photo.png", "other.png")
    whole = run("photo.png", "other.png", "dog", "cat", "--csv")
    score = scorer.Scorer.scores

    def scores(self: scorer.Scorer, images: list[object], *more: object) -> object:
        if len(images) > 1:
            raise MemoryError
        return score(self, images, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(scorer.Scorer, "scores", scores)
    assert run("photo.png", "other.png", "dog", "cat", "--csv") == whole


@pytest.mark.parametrize(
    "words",
    [
        ["dog", "cat"],
        ["photo.png"],
        ["photo.png", "dog"],
        ["photo.png", "dog", "dog"],
        ["missing.png", "dog", "cat"],
        ["photo.png", "dog", "cat", "--top", "0"],
        ["photo.png", "dog", "cat", "--score", "cosine"],
        ["photo.png", "dog", "cat", "--score", "both", "--weight", "2"],
        ["photo.png", "dog", "cat", "--weight", "0.3"],
        ["photo.png", "dog", "cat", "--score", "clip", "--dense", "clip"],
        ["photo.png", "dog", "cat", "--templates", "nothing"],
        ["photo.png", "dog", "cat", "--json", "--csv"],
        ["photo.png", "dog", "cat", "--classes", "missing.txt"],
        ["photo.png", "dog", "cat", "--topp", "3"],
        ["photo.png", "dog", "word " * 40],
    ],
)
def test_mistakes_are_one_line(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("pacl classify: error: ")


def test_a_broken_image_alone_is_a_mistake(run: Run) -> None:
    Path("photo.png").write_bytes(b"")
    code, out, err = run("photo.png", "dog", "cat")
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_a_list_in_one_word_is_named_as_such(run: Run) -> None:
    code, out, err = run("photo.png", "cow,horse,sheep")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert 'for 3 labels give "cow" "horse" "sheep"' in err


@pytest.mark.parametrize("model", ["photos", "timm:vit_tiny_patch16_224/random+st:org/name"])
def test_a_score_that_the_model_has_not_is_refused_before_it_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr("pacl.classify.load_scorer", lambda *_: pytest.fail("loaded"))
    code, out, err = run("photo.png", "dog", "cat", "--score", "clip", model=model)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--score clip" in err


def test_unknown_words_are_warned_of(run: Run) -> None:
    code, out, err = run("photo.png", "a red circle", "a zyzzyva", model="bundled")
    assert code == 0
    assert out
    assert any("warning: " in row and "zyzzyva" in row for row in err.splitlines())


def test_every_option_has_a_help() -> None:
    for action in build_parser()._actions:
        assert action.help, action.option_strings
