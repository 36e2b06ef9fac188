"""Warnings and notes: of words, of models, and of labels that take everything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import pacl.segment
from pacl.models.towers.static_tower import WORDS, load_static_tower
from pacl.models.vocabulary import Vocabulary
from pacl.segmentation.image_doubts import COMPARED
from tests.commands import Run


def test_a_label_that_takes_the_whole_image_is_told_of_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacl.segmentation.image_doubts.SWALLOWED", 0.0)
    shutil.copy("photo.png", "other.png")
    assert run("photo.png", "other.png", "a dog", "grass")[2].count("--prior") == 1
    assert "--prior" not in run("photo.png", "a dog", "grass", "--prior", "0.1")[2]
    assert "--prior" not in run("photo.png", "a dog", "--background", "none")[2]
    assert "--prior" not in run("photo.png", *(f"label {i}" for i in range(6)))[2]


def test_unknown_words_of_a_small_vocabulary_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tiny_clip: str
) -> None:
    load = pacl.segment.load_segmenter

    def with_vocabulary(*args: Any) -> Any:
        segmenter = load(*args)
        segmenter.model.clip.vocabulary = frozenset({"a", "dog", "grass"})
        return segmenter

    monkeypatch.setattr(pacl.segment, "load_segmenter", with_vocabulary)
    assert run("photo.png", "a dog", "grass")[2] == ""
    code, _, err = run("photo.png", "a zebra", "grass", "--background", "prompt:blue sky")
    assert code == 0
    assert len(err.splitlines()) == 1
    assert "warning: this model knows 3 words and not 'zebra', 'blue', 'sky'" in err


def test_words_far_from_all_of_the_training_are_named_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    load = pacl.segment.load_segmenter

    def with_words(*args: Any) -> Any:
        segmenter = load(*args)
        segmenter.vocabulary = Vocabulary(["dog", "lawn"], load_static_tower(WORDS)[0])
        return segmenter

    monkeypatch.setattr(pacl.segment, "load_segmenter", with_words)
    shutil.copy("photo.png", "again.png")
    assert run("photo.png", "a puppy", "grass")[2] == ""
    code, _, err = run("photo.png", "again.png", "a theremin=x", "grass")
    assert code == 0
    assert len(err.splitlines()) == 1
    assert 'warning: "a theremin"' in err


def test_prompts_that_the_model_cannot_tell_apart_are_named(run: Run) -> None:
    assert "mean nearly the same" in run("photo.png", "dog=one", "a dog=two")[2]
    code, _, err = run("photo.png", "dog=one", "a dog=two", "--templates", "photo")  # which drops the article
    assert (code, len(err.splitlines())) == (0, 1)
    assert '"dog" and "a dog": the same to this model' in err


def test_a_list_in_one_prompt_is_hinted_at(run: Run) -> None:
    code, _, err = run("photo.png", "a dog, grass, sky", "sea")
    assert (code, len(err.splitlines())) == (0, 1)
    assert '"a dog" "grass" "sky"' in err


def test_warnings_of_the_library_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    doubt = (RuntimeWarning, "something odd")
    monkeypatch.setattr("pacl.segmentation.segmenter.doubts", lambda *_: [doubt])
    assert run("photo.png", "a dog", "grass")[2] == "pacl segment: warning: something odd\n"
    Image.new("RGB", (8, 8), "red").save("two.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert "two.gif has 2 frames" in run("two.gif", "a dog", "grass")[2]


def test_the_bundled_model_says_that_it_knows_no_photos(run: Run) -> None:
    code, _, err = run("photo.png", "grass", "sky", model="bundled")
    assert (code, len(err.splitlines())) == (0, 1)
    assert "photo.png does not look like the drawn scenes" in err


@pytest.mark.parametrize(("found", "compared"), [(None, COMPARED), ("unlike", 1)])
def test_the_first_images_are_compared_with_drawn_scenes(
    run: Run, monkeypatch: pytest.MonkeyPatch, found: str | None, compared: int
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(pacl.segment, "unlike_drawn_scenes", lambda _, path, name: seen.append(path) or found)
    names = [f"{i}.png" for i in range(COMPARED + 2)]
    for name in names:
        shutil.copy("photo.png", name)
    assert run(*names, "grass", "sky", model="bundled")[2].count("unlike") == (found is not None)
    assert [path.name for path in seen] == names[:compared]


def test_auto_without_a_network_says_what_it_fell_back_to(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "empty")
    monkeypatch.setattr("pacl.models.towers.packaged.Package.find", lambda self: None)
    code, out, err = run("photo.png", "a red ball", "a zebra", "--json", "--format", "mask", model="auto")
    assert code == 0
    model = json.loads(out)["model"]
    assert model.pop("weights")
    assert model == {"name": "bundled", "clip": "bundled", "dense": "value", "trained": True}
    fallback, words, unlike = err.splitlines()
    assert fallback.startswith("pacl segment: warning: no CLIP weights in the cache and none can be downloaded")
    assert words.startswith("pacl segment: warning: this model knows ")
    assert "not 'zebra'" in words
    assert "drawn scenes" in unlike, "as with --model bundled"


def test_results_of_auto_go_with_those_of_the_model_that_it_took(
    run: Run, tiny_clip: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "empty")
    monkeypatch.setattr("pacl.models.towers.packaged.Package.find", lambda self: None)
    words = ("photo.png", "a red ball", "a blue house", "--out", "mine", "--format")
    assert run(*words, "overlay", model="auto")[0] == 0
    assert run(*words, "mask", model="bundled")[0] == 0
    assert {path.name for path in Path("mine").iterdir()} == {"photo.json", "photo.mask.png", "photo.overlay.png"}
    assert run(*words, "mask", model="auto")[0] == 0
    assert run(*words, "mask", "--overwrite", model=tiny_clip)[0] == 0
    code, _, err = run(*words, "mask", model="auto")
    assert code == 2
    assert err.splitlines()[-1].startswith("pacl segment: error: --out mine")
    assert json.loads(Path("mine/photo.json").read_text())["model"]["name"] == tiny_clip, "nothing is lost"
