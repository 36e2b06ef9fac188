"""Every mistake in the arguments is one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Run


def test_the_folder_of_a_model_is_named_as_it_was_typed(run: Run, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine/open_clip_config.json").write_text("{}")
    code, _, err = run("photo.png", "a dog", model="mine")
    assert code == 2
    assert "--model mine:" in err
    assert "local-dir" not in err


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
        (["photo.png", "a dog", "A dog"], "in other letters"),
        (["photo.png", "a dog", "one;a dog=two"], "belongs to two labels"),
        (["photo.png", "word " * 50, "grass"], "is too long"),
        (["photo.png", "--classes", "missing.txt"], "missing.txt does not exist"),
        (["photo.png", "--classes", "empty.txt"], "empty.txt has no classes"),
        (["photo.png", "x", "--out", "photo.png"], "--out photo.png: is a file"),
        (["photo.png", "x", "--out", "photo.png/below"], "--out photo.png/below: "),
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
    assert not Path("out").exists()  # a run that is refused leaves no folder


@pytest.mark.parametrize(
    "words",
    [
        ["--refine", "sam:nowhere"],
        ["--refine", "sam:"],
        ["--refine", "ten"],
        ["--refine", "sam:nowhere", "--dilations", "2"],
        ["--refine", "sam:nowhere", "--refine_on", "cosines"],
        ["--refine_on", "cosines"],
    ],
)
def test_a_refinement_that_makes_no_sense_is_one_line(run: Run, here: Path, words: list[str]) -> None:
    code, out, err = run("photo.png", "a dog", "grass", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert any(flag in err for flag in ("--refine", "--dilations"))
