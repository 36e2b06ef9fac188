"""Which words are prompts, and what they stand for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.commands import Run
from tests.segment.records import record


def test_prompt_flag_makes_any_word_a_prompt(run: Run) -> None:
    found = record(run, "grass", "--prompt", "photo.png", "--prompt", "a/b=c")
    assert [(label["label"], label["prompts"]) for label in found["labels"]] == [
        ("grass", ["grass"]),
        ("photo.png", ["photo.png"]),
        ("c", ["a/b"]),
    ]


def test_words_and_options_may_be_mixed(run: Run) -> None:
    code, out, _ = run("--json", "grass", "--size", "64", "photo.png", "--format", "rle", "a dog")
    assert code == 0
    assert [label["label"] for label in json.loads(out)["labels"]] == ["grass", "a dog"]


def test_classes_file_with_synonyms(run: Run) -> None:
    Path("classes.txt").write_text("cat;kitten\na dog=dog  # mine\n\ngrass\n")
    found = record(run, "--classes", "classes.txt", "sky")
    assert [(label["label"], label["prompts"]) for label in found["labels"]] == [
        ("sky", ["sky"]),
        ("cat", ["cat", "kitten"]),
        ("dog", ["a dog"]),
        ("grass", ["grass"]),
    ]


def test_ids_of_classes_with_gaps_are_said_not_to_be_kept(run: Run) -> None:
    Path("coco.json").write_text('{"categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}]}')
    code, out, err = run("photo.png", "--classes", "coco.json", "--json")
    assert code == 0
    assert [(label["label"], label["id"]) for label in json.loads(out)["labels"]] == [("car", 1), ("cat", 2)]
    assert "note: the ids in coco.json (3, 17)" in err


def test_one_prompt_competes_with_the_words_of_the_model(run: Run) -> None:
    assert record(run, "a dog")["background"]["rule"] == "contrast"


def test_a_plain_name_that_exists_is_told_of(run: Run) -> None:
    Path("dog").mkdir()
    shutil.copy("photo.png", "dog")
    code, out, err = run("photo.png", "dog", "grass")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith("pacl segment: note: ")
    assert '--prompt "dog"' in err
