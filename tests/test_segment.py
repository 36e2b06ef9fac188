"""The command as its user meets it: words and flags in; files, a table or JSON, and exit codes out."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import pacl.segment
from pacl.cli.messages import run_verb
from pacl.files import atomic_write
from pacl.models.backbone import load_backbone
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.models.towers.dense import VARIANTS
from pacl.models.towers.efficientnet_lite import LITE2
from pacl.models.towers.packaged import PACKAGES
from pacl.models.towers.static_tower import WORDS, load_static_tower
from pacl.models.vocabulary import Vocabulary
from pacl.scenes.drawing import scene
from pacl.segment import build_parser, main
from pacl.segmentation.settings import SegmenterSettings
from tests.commands import Run, runner
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def here(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own that holds photo.png.

    The random model gives nearly all pixels to one label; the note about it has a test of its own.
    """
    monkeypatch.setattr("pacl.cli.hints.SWALLOWED", 1.0)
    monkeypatch.chdir(photo.parent)
    return photo.parent


@pytest.fixture
def run(tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the tiny CLIP: (exit code, standard output, standard error)."""
    return runner("pacl segment", main, tiny_clip, capsys)


def record(run: Run, *words: str) -> dict[str, Any]:
    code, out, _ = run("photo.png", *words, "--json", "--format", "rle")
    assert code == 0
    value: dict[str, Any] = json.loads(out)
    return value


# --- what it does ---------------------------------------------------------------------------------------


def test_by_default_mask_overlay_and_record(run: Run, here: Path) -> None:
    code, out, err = run("photo.png", "a dog", "grass")
    assert (code, err) == (0, "")
    assert {path.name for path in (here / "out").iterdir()} == {"photo.overlay.png", "photo.mask.png", "photo.json"}
    for name in ("photo.overlay.png", "photo.mask.png", "photo.json"):
        assert f"out/{name}" in out  # says where the results are
    mask = np.asarray(Image.open("out/photo.mask.png"))
    assert mask.shape == (32, 48)
    found = json.loads(Path("out/photo.json").read_text())
    assert [label["label"] for label in found["labels"]] == ["a dog", "grass"]
    for label in found["labels"]:
        np.testing.assert_array_equal(coco_mask.decode(label["rle"]), mask == label["id"])
        assert label["share"] == pytest.approx((mask == label["id"]).mean())


def test_json_is_alone_on_standard_output(run: Run) -> None:
    code, out, err = run("photo.png", "a dog", "grass", "--json")
    assert (code, err) == (0, "")
    assert out == out.splitlines()[0] + "\n"
    assert json.loads(out) == json.loads(Path("out/photo.json").read_text())


def test_the_same_command_gives_the_same_files(run: Run, here: Path) -> None:
    words = ("photo.png", "a dog", "grass", "--format", "overlay,mask,heat,rle,polygons")
    run(*words)
    first = {path.name: path.read_bytes() for path in (here / "out").iterdir()}
    run(*words)
    assert first == {path.name: path.read_bytes() for path in (here / "out").iterdir()}


def test_a_folder_goes_on_after_a_bad_file_and_counts(run: Run, here: Path) -> None:
    (here / "photos" / "sub").mkdir(parents=True)
    shutil.copy("photo.png", "photos/a.png")
    Path("photos/b.png").write_bytes(Path("photo.png").read_bytes()[:500])
    shutil.copy("photo.png", "photos/sub/a.png")
    code, out, err = run("photos", "a dog", "grass")
    assert code == 1
    assert err.splitlines()[0].startswith("pacl segment: error: [2/3] photos/b.png is broken or truncated")
    assert len(err.splitlines()) == 1
    assert out.splitlines()[0].startswith("[1/3] photos/a.png: ")
    assert out.splitlines()[-1] == "2 of 3 images segmented, 1 failed; results in out"
    assert Path("out/a.json").exists()
    assert Path("out/sub/a.json").exists()
    assert not list((here / "out").glob("b.*"))


def test_json_of_a_folder_is_a_line_a_picture(run: Run, here: Path) -> None:
    for name in ("a", "b"):
        shutil.copy("photo.png", f"{name}.png")
    Path("c.png").touch()
    code, out, err = run("a.png", "c.png", "b.png", "a dog", "grass", "--json", "--format", "mask")
    assert code == 1
    assert [json.loads(row)["image"] for row in out.splitlines()] == ["a.png", "b.png"]
    assert "c.png is empty" in err
    assert err.splitlines()[-1].startswith("2 of 3 images segmented, 1 failed")


def test_pictures_of_one_name_keep_their_own_results(run: Run, here: Path) -> None:
    Path("other").mkdir()
    Image.new("RGB", (20, 10), "blue").save("other/photo.png")
    code, _, _ = run("photo.png", "other/photo.png", "a dog", "grass", "--format", "mask")
    assert code == 0
    sizes = {path.name: Image.open(path).size for path in (here / "out").glob("*.png")}
    assert sizes == {"photo.mask.png": (48, 32), "photo_png.mask.png": (20, 10)}


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


def test_one_prompt_competes_with_the_words_of_the_model(run: Run) -> None:
    assert record(run, "a dog")["background"]["rule"] == "contrast"


def test_a_plain_name_that_exists_is_told_of(run: Run) -> None:
    Path("dog").mkdir()
    shutil.copy("photo.png", "dog")
    code, out, err = run("photo.png", "dog", "grass")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith("pacl segment: note: ")
    assert '--prompt "dog"' in err


# --- the options ----------------------------------------------------------------------------------------


def test_every_setting_is_a_flag_with_its_default_and_its_help() -> None:
    parsed = build_parser().parse_args([])
    defaults = SegmenterSettings()
    assert {name: getattr(parsed, name) for name in vars(defaults)} == vars(defaults)
    for action in build_parser()._actions:
        assert action.help, action.option_strings


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--size", "48"], {"size": 48}),
        (["--window", "16"], {"window": 16, "window_step": None}),
        (["--window", "16/8"], {"window": 16, "window_step": 8}),
        (
            ["--window", "16", "--window_step", "4", "--accumulate", "pixel"],
            {"window": 16, "window_step": 4, "accumulate": "pixel"},
        ),
        (["--stride", "4"], {"stride": 4}),
        (["--scales", "1,2"], {"scales": [1.0, 2.0]}),
        (["--scales", "1.5"], {"scales": [1.5]}),
        (["--refine", "2"], {"refine": 2}),
        (["--templates", "paper"], {"templates": "paper"}),
        (["--logit_scale", "40"], {"logit_scale": 40.0}),
        (["--prior", "0.3"], {"prior": 0.3}),
        (["--prior", "-0.3"], {"prior": -0.3}),
        (["--prior", "0"], {"prior": 0.0}),
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--window_batch", "1"], {"window_batch": 1}),
        (["--background", "prompt:sky;a wall"], {"background": "prompt:sky;a wall"}),
    ],
)
def test_settings_reach_the_segmenter(run: Run, tiny_clip: str, words: list[str], settings: dict[str, Any]) -> None:
    found = record(run, "a dog", "grass", *words)
    model = load_model(tiny_clip)  # what is left to it is stated, too
    own = {"size": model.config.size, "scales": model.config.scales, "prior": model.config.prior, "precision": "fp32"}
    own["background"] = "none"  # of two labels
    own["logit_scale"] = float(model.logit_scale.detach())
    assert found["settings"] == {**vars(SegmenterSettings()), **own, **settings}


@pytest.mark.parametrize("rule", ["none", "contrast", "prompt:sky", "threshold:0.6", "entropy:0.5"])
def test_background_rules(run: Run, rule: str) -> None:
    assert record(run, "a dog", "grass", "--background", rule)["background"]["rule"] == rule


@pytest.mark.parametrize("dense", VARIANTS)
def test_dense_variants(run: Run, dense: str) -> None:
    assert record(run, "a dog", "grass", "--dense", dense)["model"]["dense"] == dense


def test_options_change_the_result(run: Run) -> None:
    """Not one of them is read and then forgotten."""
    plain = record(run, "a dog", "grass")["labels"]
    for words in (
        ["--size", "48"],
        ["--stride", "3"],
        ["--scales", "1,2"],
        ["--dense", "clip"],
        ["--templates", "paper"],
        ["--refine", "5"],
        ["--prior", "1"],
        ["--prior", "-1"],
    ):
        assert record(run, "a dog", "grass", *words)["labels"] != plain, words


def test_a_heads_own_prior_holds_unless_the_flag_says_otherwise(run: Run, tiny_clip: str) -> None:
    PACL.untrained(load_backbone(tiny_clip), prior=1.0).save_pretrained("head")

    def labels(*words: str) -> Any:
        return record(partial(run, model="head"), "a dog", "grass", *words)["labels"]

    assert labels() == labels("--prior", "1") != labels("--prior", "0")


def test_a_heads_own_scales_hold_unless_the_flag_says_otherwise(run: Run, tiny_clip: str) -> None:
    PACL.untrained(load_backbone(tiny_clip), scales=(1.0, 2.0)).save_pretrained("head")

    def labels(*words: str) -> Any:
        return record(partial(run, model="head"), "a dog", "grass", *words)["labels"]

    assert labels() == labels("--scales", "1,2") != labels("--scales", "1")
    code, out, err = run("photo.png", "a dog", "--window", "16", "--accumulate", "pixel", model="head")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--accumulate pixel: the model's own scales 1,2" in err


def test_one_prompt_on_a_calibrated_model_has_a_peak(run: Run, tiny_clip: str) -> None:
    model = PACL.untrained(load_backbone(tiny_clip))
    model.config.presence = 1e-6
    model.centre = torch.zeros(model.config.dim)
    model.save_pretrained("head")
    calibrated = partial(run, model="head")
    assert record(calibrated, "a dog")["background"]["rule"] == "peak:0.6"
    assert record(calibrated, "a dog", "--background", "peak:0.9")["background"]["rule"] == "peak:0.9"
    assert record(calibrated, "a dog", "grass")["background"]["rule"] == "none"


def test_out_names_the_folder(run: Run) -> None:
    run("photo.png", "a dog", "grass", "--out", "some/where", "--format", "mask")
    assert {path.name for path in Path("some/where").iterdir()} == {"photo.mask.png", "photo.json"}
    assert not Path("out").exists()


def test_a_named_folder_belongs_to_one_list_of_labels(run: Run, here: Path) -> None:
    def masks() -> set[str]:
        return {path.name for path in (here / "mine").glob("*.mask.png")}

    shutil.copy("photo.png", "other.png")
    assert run("photo.png", "a dog", "grass", "--out", "mine")[0] == 0
    assert run("other.png", "a dog", "grass", "--out", "mine")[0] == 0  # the same labels go together
    record = (here / "mine/photo.json").read_bytes()
    code, _, err = run("photo.png", "a dog", "sky", "--out", "mine")
    assert code == 2
    assert "--out mine" in err
    assert "--overwrite" in err
    assert (here / "mine/photo.json").read_bytes() == record
    assert run("photo.png", "a dog", "sky", "--out", "mine", "--overwrite")[0] == 0
    assert masks() == {"photo.mask.png"}


def test_in_the_default_folder_other_labels_are_told_of(run: Run, here: Path) -> None:
    shutil.copy("photo.png", "other.png")
    run("photo.png", "a dog", "grass", "--format", "heat,rle")
    assert run("photo.png", "a dog", "sky")[2] == ""  # replaced as a whole, nothing is mixed
    assert not [*here.glob("out/*heat*")]
    code, _, err = run("other.png", "a dog", "grass")
    assert code == 0
    assert "note:" in err
    assert "out also holds results of other labels, such as photo.json" in err
    assert (here / "out/photo.json").is_file()


def test_overwrite_leaves_folders_of_results_below_alone(run: Run, here: Path) -> None:
    shutil.copy("photo.png", "other.png")
    run("photo.png", "a dog", "grass", "--out", "out/named")
    before = {path: path.read_bytes() for path in here.glob("out/named/*")}
    run("photo.png", "other.png", "a dog", "sky")
    assert run("photo.png", "a dog", "sky")[2] == ""
    code, _, err = run("photo.png", "a dog", "grass", "--overwrite", "--format", "mask")
    assert (code, len(err.splitlines()), "removed 1 result" in err) == (0, 1, True)  # photo.json has a new one
    assert {path: path.read_bytes() for path in here.glob("out/named/*")} == before
    assert {path.name for path in here.glob("out/*")} == {"named", "photo.json", "photo.mask.png"}
    assert run("photo.png", "a dog", "grass", "--overwrite", "--format", "mask")[2] == ""


def test_a_label_that_takes_the_whole_image_is_told_of_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacl.cli.hints.SWALLOWED", 0.0)
    shutil.copy("photo.png", "other.png")
    assert run("photo.png", "other.png", "a dog", "grass")[2].count("--prior") == 1
    assert "--prior" not in run("photo.png", "a dog", "grass", "--prior", "0.1")[2]
    assert "--prior" not in run("photo.png", "a dog", "--background", "none")[2]
    assert "--prior" not in run("photo.png", *(f"label {i}" for i in range(6)))[2]


def test_the_folder_of_a_model_is_named_as_it_was_typed(run: Run, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine/open_clip_config.json").write_text("{}")
    code, _, err = run("photo.png", "a dog", model="mine")
    assert code == 2
    assert "--model mine:" in err
    assert "local-dir" not in err


def test_device_cpu(run: Run) -> None:
    assert record(run, "a dog", "grass", "--device", "cpu") == record(run, "a dog", "grass")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_cuda(run: Run) -> None:
    assert record(run, "a dog", "grass", "--device", "cuda:0")["labels"]


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
    assert run("photo.png", "dog=one", "a dog=two")[2] == ""
    code, _, err = run("photo.png", "dog=one", "a dog=two", "--templates", "photo")  # which drops the article
    assert (code, len(err.splitlines())) == (0, 1)
    assert '"dog" and "a dog"' in err


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


# --- one COCO file for the run --------------------------------------------------------------------------


def test_coco_is_one_file_for_the_run(run: Run) -> None:
    Path("photos/sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        shutil.copy("photo.png", f"photos/{name}")
    code, out, err = run("photos", "a dog", "grass", "--format", "coco,mask")
    assert (code, err) == (0, "")
    assert "out/annotations.json" in out
    data = COCO("out/annotations.json")
    assert [image["file_name"] for image in data.dataset["images"]] == ["a.png", "sub/b.png"]
    for each in data.dataset["annotations"]:
        mask = np.asarray(Image.open("out/a.mask.png")) == each["category_id"]
        assert each["area"] == mask.sum()
    assert {each["image_id"] for each in data.dataset["annotations"]} == {1, 2}


def test_an_interrupted_run_keeps_what_is_finished_and_is_completed_by_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacl.segmentation.segmenter import Segmenter

    predict, names = Segmenter.predict_batch, ("a.png", "b.png", "c.png")
    for name in names:
        shutil.copy("photo.png", name)
    left = [2]

    def interrupted(*words: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return predict(*words)

    words = ("a dog", "grass", "--format", "coco,cvat,yolo,mmseg,mask", "--window_batch", "1")
    monkeypatch.setattr(Segmenter, "predict_batch", interrupted)
    code, _, err = run(*names, *words)
    assert (code, err.splitlines()[-1]) == (130, "pacl segment: interrupted")
    assert Path("out/a.mask.png").exists()
    kept = {image["file_name"] for image in COCO("out/annotations.json").dataset["images"]}
    assert kept == {path.name.replace(".mask", "") for path in Path("out").glob("*.mask.png")} >= {"a.png"}
    assert kept == {image.attrib["name"] for image in ElementTree.parse("out/annotations.xml").iter("image")}
    for folder, file in (("yolo/labels", "yolo/data.yaml"), ("mmseg/ann_dir", "mmseg/metainfo.json")):
        assert {f"{path.stem}.png" for path in Path("out", folder).iterdir()} == kept
        assert Path("out", file).exists()
    monkeypatch.setattr(Segmenter, "predict_batch", predict)
    assert run(*names[1:], *words)[0] == 0
    data = COCO("out/annotations.json")
    assert [image["file_name"] for image in data.dataset["images"]] == list(names)
    assert {each["image_id"] for each in data.dataset["annotations"]} == {1, 2, 3}
    assert [image.attrib["name"] for image in ElementTree.parse("out/annotations.xml").iter("image")] == list(names)
    assert {path.stem for path in Path("out/yolo/labels").iterdir()} == {"a", "b", "c"}


def test_mmseg_has_a_background_where_a_single_prompt_has_one(run: Run) -> None:
    assert run("photo.png", "a dog", "--format", "mmseg,mask")[0] == 0
    assert json.loads(Path("out/mmseg/metainfo.json").read_text())["classes"] == ["background", "a dog"]
    np.testing.assert_array_equal(Image.open("out/mmseg/ann_dir/photo.png"), Image.open("out/photo.mask.png"))
    code, _, err = run("photo.png", "a dog", "--format", "mmseg", "--background", "none", "--out", "other")
    assert (code, err) == (0, "")
    assert json.loads(Path("other/mmseg/metainfo.json").read_text())["classes"] == ["a dog"]


def test_images_in_exported_data_sets_are_not_segmented(run: Run) -> None:
    assert run("photo.png", "a dog", "grass", "--format", "yolo,mmseg")[0] == 0
    code, _, err = run(".", "a dog", "grass", "--format", "mask", "--out", "second")
    assert (code, len(err.splitlines())) == (0, 1)
    assert sorted(path.name for path in Path("second").iterdir()) == ["photo.json", "photo.mask.png"]


# --- output that cannot be written ----------------------------------------------------------------------


def test_a_full_disk_stops_the_run_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(6):
        shutil.copy("photo.png", f"{i}.png")
    tried = []

    def full(path: Path, index: np.ndarray) -> None:
        tried.append(path)
        with atomic_write(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("pacl.results.writer.save_mask", full)
    images = [f"{i}.png" for i in range(6)]
    code, out, err = run(*images, "a dog", "grass", "--window_batch", "1")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "No space left on device" in err
    assert len(tried) < 4
    assert not list(Path("out").iterdir())


def test_json_is_whole_whatever_the_encoding(run: Run, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="cp1252"))
    with pytest.raises(SystemExit) as stop:
        run_verb("pacl segment", lambda: main(["photo.png", "犬", "a dog", "--json", "--model", tiny_clip]))
    assert stop.value.code == 0
    assert json.loads(content.getvalue())["labels"][0]["label"] == "犬"


# --- what is left out is said ---------------------------------------------------------------------------


def test_images_that_are_not_read_are_counted_and_fail(run: Run) -> None:
    Path("photos").mkdir()
    shutil.copy("photo.png", "photos/a.png")
    shutil.copy("photo.png", "photos/b.jfif")
    Path("photos/c.HEIC").write_bytes(b"1234ftypheic")
    code, out, err = run("photos", "a dog", "grass")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "c.HEIC" in err
    assert out.splitlines()[-1].startswith("2 of 2 images segmented, 0 failed, 1 not read")


def test_results_of_an_earlier_run_are_not_segmented(run: Run, here: Path) -> None:
    run(".", "a dog", "grass")
    code, _, err = run(".", "a dog", "grass", "--out", "second")
    assert (code, len(err.splitlines())) == (0, 1)
    assert "2 results of earlier runs" in err
    assert {path.name for path in Path("second").iterdir()} == {"photo.overlay.png", "photo.mask.png", "photo.json"}


# --- every mistake is one line and exit code 2 ----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no image"),
        (["a dog"], "no image"),
        (["photo.png"], "no prompt"),
        (["missing.jpg", "a dog"], "missing.jpg: no such image or folder"),
        (["photo.png", "a/dog"], "write --prompt 'a/dog'"),
        (["empty", "a dog"], "empty has no images"),
        (["photo.png", ""], "empty prompt"),
        (["photo.png", "=dog"], "empty prompt"),
        (["photo.png", "a dog="], "no label"),
        (["photo.png", "a dog", "A dog"], "given twice"),
        (["photo.png", "a dog", "one;a dog=two"], "belongs to two labels"),
        (["photo.png", "word " * 50, "grass"], "is too long"),
        (["photo.png", "--classes", "missing.txt"], "missing.txt does not exist"),
        (["photo.png", "--classes", "empty.txt"], "empty.txt has no classes"),
        (["photo.png", "x", "--out", "photo.png"], "--out photo.png: is a file"),
        (["photo.png", "x", "--out", "photo.png/below"], "--out photo.png/below: cannot write there"),
        ([".", "x", "--out", "."], "--out .:"),
        (
            ["photo.png", "x", "--format", "mask,gif"],
            "choose from overlay, mask, heat, rle, polygons, coco, cvat, labelme, yolo, mmseg, npz",
        ),
        (["photo.png", "x", "--format", ""], "choose from overlay"),
        (["photo.png", "x", "--dense", "fancy"], "choose from clip, value, maskclip, sclip, clearclip, naclip"),
        (["photo.png", "x", "--device", "gpu"], "--device gpu: choose auto, cpu, cuda"),
        (["photo.png", "x", "--device", "meta"], "--device meta: choose auto, cpu, cuda"),
        (["photo.png", "x", "--device", "cuda:99"], "--device cuda:99: torch finds"),
        (["photo.png", "x", "--precision", "fp8"], "--precision: invalid choice: 'fp8' (choose from"),
        (["photo.png", "x", "--background", "sky"], "--background sky: unknown rule; use auto, none, peak"),
        (["photo.png", "x", "y", "--background", "entropy:3"], "can never hold"),
        (["photo.png", "x", "--templates", "many"], "no such name (none, photo, paper, imagenet)"),
        (["photo.png", "x", "--size", "many"], "--size: invalid int value: 'many'"),
        (["photo.png", "x", "--size", "2"], "--size 2: must be at least the model's patch size"),
        (["photo.png", "x", "--window", "16/x"], "--window 16/x:"),
        (["photo.png", "x", "--window", "16/32"], "--window 16/32"),
        (["photo.png", "x", "--window_step", "8"], "--window_step 8:"),
        (["photo.png", "x", "--stride", "0"], "--stride 0"),
        (["photo.png", "x", "--stride", "9"], "--stride 9: must be between 1 and"),
        (["photo.png", "x", "--scales", "x"], "--scales: 'x' is not a number or several such as 1,2"),
        (["photo.png", "x", "--scales", "1,"], "--scales: '1,' is not a number"),
        (["photo.png", "x", "--scales", "1,0"], "--scales 1,0:"),
        (["photo.png", "x", "--scales", "1,2", "--accumulate", "pixel"], "--scales 1,2:"),
        (["photo.png", "x", "--background", "peak:2"], "--background peak:2: needs a share between 0 and 1"),
        (["photo.png", "x", "--background", "peak"], "--background peak:0.6: this model is not calibrated"),
        (["photo.png", "x", "--refine", "-1"], "--refine -1"),
        (["photo.png", "x", "--refine"], "--refine: expected one argument"),
        (["photo.png", "x", "--prior", "inf"], "--prior inf: must be from -1 to 1"),
        (["photo.png", "x", "--prior", "nan"], "--prior nan"),
        (["photo.png", "x", "--prior", "much"], "--prior: invalid float value: 'much'"),
        (["photo.png", "x", "--widow", "16"], "--widow: no such option; did you mean --window?"),
        (["photo.png", "x", "--zzz"], "--zzz: no such option; see --help"),
    ],
)
def test_mistakes(run: Run, words: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("empty.txt").touch()
    code, out, err = run(*words)
    assert code == 2
    assert message in err
    assert err.startswith("pacl segment: error: ")
    assert len(err.splitlines()) == 1
    assert out == ""
    assert not Path("out/photo.json").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nonsense", "--model nonsense"),
        ("empty", "--model"),
        ("local-dir:missing", "missing"),
        ("open_clip:NoSuchModel/tag", "NoSuchModel"),
    ],
)
def test_models_that_are_not_there(run: Run, model: str, message: str) -> None:
    Path("empty").mkdir()
    code, out, err = run("photo.png", "a dog", model=model)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def truncated(path: Path) -> None:
    path.write_bytes(Path("photo.png").read_bytes()[:1000])


def not_a_picture(path: Path) -> None:
    path.write_text("hello")


def bomb(path: Path) -> None:
    """A PNG whose header promises 90,000 x 90,000 pixels."""
    data = Path("photo.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 90_000, 90_000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "bad.png is broken or truncated"),
        (not_a_picture, "bad.png is not an image"),
        (bomb, "bad.png is too large"),
        (Path.touch, "is empty"),
    ],
)
def test_pictures_that_cannot_be_read(run: Run, make: Callable[[Path], None], message: str) -> None:
    make(Path("bad.png"))
    code, out, err = run("bad.png", "a dog", "grass")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert not list(Path("out").iterdir())


def test_out_of_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("pacl.segmentation.segmenter.Segmenter.predict_batch", exhausted)
    code, _, err = run("photo.png", "a dog", "grass")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "photo.png: out of memory; try a smaller --size" in err


def test_programming_errors_keep_their_traceback(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("pacl.segmentation.segmenter.Segmenter.predict_batch", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        main(["photo.png", "a dog", "grass", "--model", tiny_clip])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_reader_that_has_enough_is_no_error(tiny_clip: str, here: Path) -> None:
    command = f"{sys.executable} -m pacl.segment photo.png sky sea --model {tiny_clip} --json --format mask"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


# --- help -----------------------------------------------------------------------------------------------


def test_help_names_what_there_is_and_needs_no_torch() -> None:
    code = "import sys, pacl.segment as s\ntry: s.main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith("False\n")
    text = " ".join(done.stdout.split())
    for word in (*VARIANTS, "overlay", "polygons", "--window CROP[/STEP]", "examples:", "exit codes:"):
        assert word in text


# --- start-up -------------------------------------------------------------------------------------------


@pytest.mark.skipif(PACKAGES[LITE2].find() is None, reason=f"needs {PACKAGES[LITE2].distribution}")
@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="einops imports torch._dynamo where torch is old")
def test_the_photo_model_imports_only_what_it_needs(tmp_path: Path) -> None:
    """What others import takes seconds, torch's compiler and its way through torchvision above all."""
    code = (
        "import json, sys, pacl.segment as s\n"
        f"s.main(['pacl/photos/demo.jpg', 'a cat', '--model', 'photos', '--out', {str(tmp_path)!r}])\n"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = set(json.loads(done.stdout.splitlines()[-1]))
    assert "torch" in found
    needless = {
        *("torch._dynamo", "torch._inductor", "torchvision", "timm", "open_clip", "transformers", "lightning"),
        *("sentence_transformers", "torchmetrics", "matplotlib", "sympy", "scipy", "sklearn", "pandas"),
    }
    assert not found & needless


# --- the bundled model ----------------------------------------------------------------------------------


def test_the_demo_is_right(run: Run) -> None:
    """What is drawn is found: the command's own mask against the scene's."""
    drawn = scene("test", 93, pairs="all", n_objects=4, size=(480, 640))
    Image.fromarray(drawn.image).save("scene.png")
    code, _, err = run("scene.png", *drawn.names, "--size", "96", "--stride", "4", "--refine", "10", model="bundled")
    assert (code, err) == (0, "")
    mask = np.asarray(Image.open("out/scene.mask.png"))
    for i, name in enumerate(drawn.names):
        found, true = mask == i + 1, drawn.mask == i
        assert (found & true).sum() / (found | true).sum() > 0.75, name
    shipped = Path(pacl.segment.__file__).with_name("bundled") / "demo.jpg"
    difference = np.asarray(Image.open(shipped)).astype(int) - drawn.image
    assert np.abs(difference).mean() < 5  # the picture that ships is this scene, as JPEG


def test_auto_without_a_network_says_what_it_fell_back_to(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "empty")
    monkeypatch.setattr("pacl.models.towers.packaged.Package.find", lambda self: None)
    code, out, err = run("photo.png", "a red ball", "a zebra", "--json", "--format", "mask", model="auto")
    assert code == 0
    assert json.loads(out)["model"] == {"name": "bundled", "clip": "bundled", "dense": "value", "trained": True}
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


def test_the_record_states_the_background_rule_that_was_used(run: Run) -> None:
    assert record(run, "a dog", "grass")["settings"]["background"] == "none"
    assert record(run, "a dog")["settings"]["background"] == "contrast"
    assert record(run, "a dog", "grass", "--background", "entropy:0.1")["settings"]["background"] == "entropy:0.1"


def test_what_matters_is_first_in_the_help() -> None:
    told = build_parser().format_help()
    flags = ("--classes", "--model", "--background", "--prior", "--refine ", "--size", "--out", "--step", "--remainder")
    places = [told.index(f"\n  {flag}") for flag in flags]
    assert places == sorted(places)


def test_names_with_line_breaks_forge_no_lines_and_long_ones_are_cut(run: Run, here: Path) -> None:
    names = ["a\n[2-2] forged.png", "x" * 250 + ".png"]
    (here / "odd").mkdir()
    for name in names:
        shutil.copy(here / "photo.png", here / "odd" / name)
    code, out, err = run("odd", "a dog", "grass", "--format", "overlay,rle,heat,labelme,yolo,mmseg")
    assert (code, err) == (0, "")
    assert len([line for line in out.splitlines() if line.startswith("[")]) == 2
    assert "a\\n[2-2] forged.png" in out
    records = [json.loads(path.read_text(encoding="utf-8"))["image"] for path in sorted((here / "out").glob("*.json"))]
    assert records == [f"odd/{name}" for name in names]  # the names themselves


@pytest.mark.parametrize("words", [["--prior", "-1e-3"], ["--prior=-1e-3"]])
def test_a_negative_prior_in_scientific_notation_is_a_number(run: Run, here: Path, words: list[str]) -> None:
    assert record(run, "a dog", "grass", *words)["settings"]["prior"] == -1e-3


@pytest.mark.parametrize(
    "words",
    [
        ["--refine", "sam:nowhere"],
        ["--refine", "sam:"],
        ["--refine", "ten"],
        ["--refine", "sam:nowhere", "--dilations", "2"],
        ["--refine", "sam:nowhere", "--refine_on", "cosines"],
    ],
)
def test_a_refinement_that_makes_no_sense_is_one_line(run: Run, here: Path, words: list[str]) -> None:
    code, out, err = run("photo.png", "a dog", "grass", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert any(flag in err for flag in ("--refine", "--dilations"))


def listed(folder: str) -> tuple[set[str], list[str], list[str]]:
    """The records in a folder of results, and the images in its COCO and CVAT files."""
    coco = [image["file_name"] for image in json.loads(Path(folder, "annotations.json").read_text())["images"]]
    cvat = re.findall(r'<image [^>]*name="([^"]*)"', Path(folder, "annotations.xml").read_text())
    return {path.stem for path in Path(folder).glob("*.json")} - {"annotations"}, coco, cvat


def test_another_image_of_the_same_name_joins_the_results(run: Run, here: Path) -> None:
    Path("other").mkdir()
    for name in ("other/photo.png", "photo.webp"):
        shutil.copy("photo.png", name)
    flags = ["a dog", "grass", "--out", "results", "--format", "mask,rle,coco,cvat,labelme,yolo,mmseg"]
    for images in (["photo.png"], ["other/photo.png"], ["photo.webp"], ["photo.webp", "other/photo.png", "photo.png"]):
        assert run(*images, *flags)[0] == 0
    places = ["photo.png", "other/photo.png", "photo.webp"]
    assert listed("results") == ({"photo", "photo_png", "photo_webp"}, places, places)
    of = {path.stem: json.loads(path.read_text())["image"] for path in Path("results").glob("photo*.json")}
    assert of == {"photo": "photo.png", "photo_png": "other/photo.png", "photo_webp": "photo.webp"}
    for folder in ("labelme", "yolo/labels", "yolo/images", "mmseg/ann_dir", "mmseg/img_dir"):
        assert {path.stem for path in Path("results", folder).iterdir()} == set(of)
    run("other", *flags)
    assert listed("results")[1] == places
    run("other/photo.png", *flags, "--overwrite")
    assert listed("results") == ({"photo"}, ["photo.png"], ["photo.png"])


def test_results_of_an_image_that_is_gone_are_replaced_with_a_note(run: Run, here: Path) -> None:
    Path("other").mkdir()
    shutil.move("photo.png", "other/photo.png")
    shutil.copy("other/photo.png", "second.png")
    words = ["a dog", "grass", "--out", "results", "--format", "coco,cvat"]
    run("other/photo.png", "second.png", *words)
    Path("moved/other").mkdir(parents=True)
    shutil.move("other/photo.png", "moved/other/photo.png")
    for noted in (True, False):
        code, _, err = run("moved/other/photo.png", *words)
        assert code == 0
        assert ("note: results of another file" in err) == noted
    assert listed("results") == ({"photo", "second"}, *[["photo.png", "second.png"]] * 2)
