"""The command as its user meets it: a table, the files of a probe, and one line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pacl.classification.probe import Probe, train_probe
from pacl.classify import main as classify
from pacl.cli.messages import run_verb
from pacl.errors import ArgumentError, ImageWarning, UserError
from pacl.models.loading import load_model
from pacl.models.precision import resolve_precision
from pacl.probe import main, parse_seeds, parse_shots
from tests.tiny import configure_clip, save_tiny_clip

pytest.importorskip("sklearn")

COLOURS = {"blue": (30, 40, 200), "green": (30, 180, 40), "red": (200, 30, 30)}
Run = Callable[..., tuple[int, str, str]]


def draw(folder: Path, count: int, seed: int = 0) -> Path:
    """Nearly plain images, a folder for each colour."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.array(colour) + rng.integers(-25, 26, (36, 44, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return draw(tmp_path / "train", 8)


@pytest.fixture
def run(tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, model: str = tiny_clip, command: Callable[..., int] = main) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run_verb("pacl", lambda: command([*words, "--model", model]))
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, captured.out, captured.err

    return run


def test_a_probe_is_trained_and_classifies(run: Run, tiny_clip: str) -> None:
    code, out, _ = run("train", "--out", "mine", "--shots", "1,all", "--seeds", "0,1")
    assert code == 0
    about = json.loads(Path("mine/probe.json").read_text())
    assert about["classes"] == ["blue", "green", "red"]
    assert [row["name"] for row in about["training"]["results"]] == ["chance", "zero-shot", "1", "all"]
    last = about["training"]["results"][-1]
    assert last["top1"] == last["balanced"] == 100
    assert last["intervals"]["top1"] == pytest.approx([60.97, 100], abs=0.01), "6 of 6 are few"
    assert about["training"]["results"][2]["spread"].keys() == {"top1", "balanced"}
    assert (about["training"]["test_images"], about["training"]["images"]) == (6, 18)
    assert "100.0" in out
    assert out.startswith(Path("mine/results.md").read_text().partition("\n\n")[2].partition("\n")[0])
    assert Image.open("mine/accuracy.png").size[0] > 100

    shutil.copy("train/red/0.png", "one.png")
    code, out, err = run("one.png", "train/blue", "--json", command=classify, model="mine")
    assert (code, err.count("error")) == (0, 0)
    code, table, _ = run("one.png", command=classify, model="mine")
    assert table.splitlines()[1].split() == ["label", "probability", "logit"]
    best = [json.loads(row)["labels"][0]["label"] for row in out.splitlines()]
    assert best == ["red"] + ["blue"] * 8
    expected = Probe.load("mine", device="cpu").classify(["one.png"])[0]
    found = {each["label"]: each["probability"] for each in json.loads(out.splitlines()[0])["labels"]}
    assert [found[name] for name in about["classes"]] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_same_command_gives_the_same_probe(run: Run) -> None:
    for name in ("a", "b"):
        assert run("train", "--out", name, "--shots", "2")[0] == 0
    assert Path("a/probe.safetensors").read_bytes() == Path("b/probe.safetensors").read_bytes()
    assert Path("a/probe.json").read_bytes() == Path("b/probe.json").read_bytes()


def test_what_does_not_count_is_said(run: Run) -> None:
    Path("train/red/bad.png").write_bytes(b"not an image")
    shutil.copy("train/red/0.png", "train/red/copy.png")
    with Image.open("train/red/0.png") as image:
        image.save("train/red/pixels.tif")  # other bytes, the same pixels
    shutil.copy("train/red/1.png", "train/blue/same.png")
    Path("train/empty").mkdir()
    draw(Path("test"), 2, seed=1)
    shutil.copy("train/green/3.png", "test/green/seen.png")
    shutil.rmtree("test/blue")
    code, _, err = run("train", "--test", "test", "--out", "mine", "--shots", "all")
    assert code == 1
    for part in ("bad.png", "empty", "several classes", "2 copies", "trained on", "no test images of blue"):
        assert part in err
    training = json.loads(Path("mine/probe.json").read_text())["training"]
    assert (training["images"], training["test_images"]) == (8 + 8 + 7, 4)


def test_shots_that_the_classes_have_no_images_for_are_left_out_or_refused(run: Run) -> None:
    for path in Path("train/red").glob("[3-9].png"):
        path.unlink()
    code, _, err = run("train", "--out", "mine", "--holdout", "0.3")
    assert (code, "'red'" in err) == (0, True)
    assert "1, all" in err
    assert "--shots" not in err, "nobody gave this flag"
    names = [row["name"] for row in json.loads(Path("mine/probe.json").read_text())["training"]["results"]]
    assert names == ["chance", "zero-shot", "1", "all"]
    code, _, err = run("train", "--out", "more", "--shots", "8")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "8 shots need 12" in err
    assert not Path("more").exists()


@pytest.mark.parametrize("holdout", ["0.2", "0.3", "0.5", "0.01"])
@pytest.mark.parametrize("flags", [["--shots", "8"], []], ids=str)  # without shots it is a note
def test_the_number_of_images_that_is_named_is_enough(run: Run, holdout: str, flags: list[str]) -> None:
    shutil.rmtree("train")
    code, _, err = run(str(draw(Path("train"), 7)), "--holdout", holdout, "--out", "mine", *flags)
    assert (code, "--test" in err) == (2 if flags else 0, True)
    (shots, named) = re.findall(rf"(\d+) shots need .*--holdout {holdout}\) (\d+)", err)[0]
    for count, expected in ((int(named) - 1, 2), (int(named), 0)):
        shutil.rmtree("train")
        words = [str(draw(Path("train"), count)), "--holdout", holdout, "--shots", shots]
        assert run(*words, "--out", "more")[0] == expected


def test_images_of_which_none_can_be_read_are_one_line_each(run: Run) -> None:
    for path in Path("train").rglob("*.png"):
        path.write_bytes(b"no image")
    code, _, err = run("train", "--out", "mine")
    assert (code, len(err.splitlines()), Path("mine/probe.json").exists()) == (2, 25, False)


def test_the_images_that_are_trained_on_are_no_test(run: Run) -> None:
    code, _, err = run("train", "--test", "train", "--out", "mine")
    assert (code, "two or more" in err, Path("mine/probe.json").exists()) == (2, False, False)
    code, _, err = run("train", "--test", "train", "--shots", "16", "--out", "mine")
    assert (code, "held out" in err) == (2, False)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train", "--holdout", "1"], "--holdout 1"),
        (["train", "--shots", "0,1"], "--shots"),
        (["train", "--shots", "some"], "--shots"),
        (["train", "--seeds", "-1"], "--seeds"),
        (["train", "--dense", "clip"], "--dense"),
        (["none"], "none"),
        (["train/red"], "train/red"),
        (["one"], "two classes"),
        (["parts"], "parts/test"),
        (["train", "--test", "odd"], "zebra"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(run: Run, words: list[str], part: str) -> None:
    for name in ("one/red", "parts/train/red", "parts/test/red", "odd/zebra"):
        shutil.copytree("train/red", name)
    code, out, err = run(*words, "--out", "mine")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert part in err
    assert not Path("mine").exists()


@pytest.mark.parametrize("words", [["none"], ["train/red"], ["train", "--test", "none"]])
def test_mistakes_in_folders_need_no_torch(words: list[str]) -> None:
    code = "import sys; sys.modules['torch'] = None; from pacl.probe import main; main(sys.argv[1:])"
    found = subprocess.run([sys.executable, "-c", code, *words, "--out", "x"], capture_output=True, text=True)
    assert found.stderr.splitlines()[-1].startswith("pacl.errors.UserError")


def test_a_folder_belongs_to_one_probe(run: Run) -> None:
    assert run("train", "--out", "mine", "--shots", "all")[0] == 0
    before = Path("mine/probe.json").read_bytes()
    code, _, err = run("train", "--out", "mine", "--shots", "1")
    assert (code, "--overwrite" in err) == (2, True)
    assert Path("mine/probe.json").read_bytes() == before
    assert run("train", "--out", "mine", "--shots", "1", "--overwrite")[0] == 0
    assert Path("mine/probe.json").read_bytes() != before


def test_no_probe_goes_beside_a_head(run: Run) -> None:
    Path("head").mkdir()
    Path("head", "config.json").write_text("{}")
    code, _, err = run("train", "--out", "head", "--shots", "1", "--overwrite")
    assert (code, "config.json" in err) == (2, True)
    assert [path.name for path in Path("head").iterdir() if path.name[0] != "."] == ["config.json"]


def test_folders_of_numbers_have_no_zero_shot_row(run: Run) -> None:
    for i, name in enumerate(COLOURS):
        Path("train", name).rename(Path("train", str(i)))
    code, _, err = run("train", "--out", "mine", "--shots", "all")
    assert (code, "zero-shot" in err) == (0, True)
    names = [row["name"] for row in json.loads(Path("mine/probe.json").read_text())["training"]["results"]]
    assert names == ["chance", "all"]


def test_classify_refuses_what_a_probe_has_no_use_for(run: Run) -> None:
    assert run("train", "--out", "mine", "--shots", "all")[0] == 0
    for words in (["train/red/0.png", "a dog"], ["train/red/0.png", "--score", "phi"], []):
        code, out, err = run(*words, command=classify, model="mine")
        assert (code, out, len(err.splitlines())) == (2, "", 1)
    with pytest.raises(ArgumentError, match="pacl classify"):
        load_model("mine")


def test_other_weights_and_damaged_files_are_refused(run: Run, tmp_path: Path) -> None:
    assert run("train", "--out", "mine", "--shots", "all")[0] == 0
    other = load_model(save_tiny_clip(tmp_path / "other", seed=1), device="cpu")
    with pytest.raises(UserError, match="other weights"):
        Probe.load("mine", other)
    for name, content in (("probe.json", b"{}"), ("probe.json", b"["), ("probe.safetensors", b"")):
        shutil.copytree("mine", "damaged", dirs_exist_ok=True)
        Path("damaged", name).write_bytes(content)
        code, _, err = run("train/red/0.png", command=classify, model="damaged")
        assert (code, len(err.splitlines())) == (2, 1)
    about = json.loads(Path("mine/probe.json").read_text())
    Path("mine/probe.json").write_text(json.dumps({**about, "model": "local-dir:/nowhere"}))
    code, _, err = run("train/red/0.png", command=classify, model="mine")
    assert (code, len(err.splitlines()), '"model"' in err) == (2, 1, True)


@pytest.mark.parametrize("features", ["pooled", "patches"])
@pytest.mark.parametrize("changes", [{"quick_gelu": True}, {"preprocess": {"resize_mode": "squash"}}], ids=str)
def test_a_clip_with_other_settings_is_refused(features: str, changes: dict, run: Run, tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path / "clip")
    files = sorted(Path("train").rglob("*.png"))
    train_probe(name, files, [file.parent.name for file in files], features=features).save("mine")
    assert Probe.load("mine").features == features
    configure_clip(name, **changes)
    with pytest.raises(UserError, match="settings"):
        Probe.load("mine")


@pytest.mark.parametrize("features", ["pooled", "patches"])
def test_a_model_that_was_trained_on_needs_another_probe(features: Any, tmp_path: Path) -> None:
    first, second = (load_model(save_tiny_clip(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    files = sorted(Path("train").glob("*/*.png"))
    probe = train_probe(first, files, [file.parent.name for file in files], features=features)
    first.load_state_dict(second.state_dict())
    with pytest.raises(UserError):
        probe.classify(files)
    probe.save("probe")
    with pytest.raises(UserError):
        Probe.load("probe", second)
    Probe.load("probe", load_model(str(first.name))).classify(files)


@pytest.mark.parametrize("features", ["pooled", "patches"])
def test_in_python(tiny_clip: str, features: str) -> None:
    model = load_model(tiny_clip, device="cpu")
    files = sorted(Path("train").rglob("*.png"))
    probe = train_probe(model, files, [file.parent.name for file in files], features=features, model_name=tiny_clip)
    probabilities = probe.classify(files)
    assert probabilities.shape == (24, 3)
    assert torch.allclose(probabilities.sum(1), torch.ones(24), atol=1e-5)
    probe.save("mine")
    again = Probe.load("mine", device="cpu")
    assert again.classes == probe.classes == ("blue", "green", "red")
    assert torch.equal(again.scores(files), probe.scores(files))
    labels = [file.parent.name for file in files]
    held_out = train_probe(model, files, labels, features=features, holdout=np.float32(0.25))
    held_out.save("held")
    assert (held_out.training["images"], held_out.training["test_images"]) == (18, 6)
    assert [row["name"] for row in held_out.training["results"]] == ["chance", "all"]
    assert held_out.training["results"][1]["top1"] == 100
    for wrong in (0, 1.0):
        with pytest.raises(ArgumentError):
            train_probe(model, files, labels, holdout=wrong)
    with pytest.raises(ArgumentError):
        train_probe(model, files, ["one"] * 24)
    with pytest.raises(ArgumentError):
        train_probe(model, files, ["one", "two"])
    # One text has a letter for each image, but is no list of names, and a set has no order.
    for text in ("ab" * 12, b"ab" * 12, set(map(str, range(24))), 5):
        with pytest.raises(ArgumentError) as error:
            train_probe(model, files, text)  # type: ignore[arg-type]
        assert (error.value.argument, type(text).__name__ in error.value.value) == ("labels", True)
    with pytest.raises(ArgumentError) as error:
        train_probe(model, files, [*labels[:-1], 1])  # type: ignore[list-item]
    assert (error.value.argument, "int" in error.value.value) == ("labels[23]", True)


def test_in_python_an_image_counts_once(tiny_clip: str) -> None:
    model = load_model(tiny_clip, device="cpu")
    files = sorted(Path("train").rglob("*.png"))
    labels = [file.parent.name for file in files]
    once = train_probe(model, files, labels, holdout=0.25)
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    right = train_probe(model, files, shuffled, holdout=0.25).training["results"][1]["top1"]
    copies = [np.asarray(Image.open(file)) for file in files]  # in another form
    for given, repeated, same in ((files, labels, once.training["results"][1]["top1"]), (files, shuffled, right)):
        with pytest.warns(ImageWarning, match="24 copies"):
            probe = train_probe(model, [*given, *copies], repeated * 2, holdout=0.25)
        training = probe.training
        assert (training["images"], training["test_images"], training["results"][1]["top1"]) == (18, 6, same)
    with pytest.warns(ImageWarning, match=r"images\[0\] = images\[24\]"):
        probe = train_probe(model, [*files, files[0]], [*labels, "red"])  # it is in two classes: it counts in none
    assert probe.training["images"] == 23
    with pytest.warns(ImageWarning), pytest.raises(UserError, match="green"):
        train_probe(model, [*files[:3], files[0]], ["red", "red", "blue", "green"])


def test_a_probe_keeps_its_precision(run: Run, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    scores = Probe.scores
    monkeypatch.setattr(Probe, "scores", lambda self, *given: used.append(self.precision) or scores(self, *given))
    assert run("train", "--shots", "all", "--precision", "bf16", "--out", "mine")[0] == 0
    assert Probe.load("mine", device="cpu").precision == "bf16"
    for flags in ([], ["--precision", "fp32"]):
        assert classify(["train/red", "--model", "mine", *flags]) == 0
    assert set(used[: len(used) // 2]) == {"bf16"}
    assert set(used[len(used) // 2 :]) == {"fp32"}
    files = sorted(Path("train").rglob("*.png"))
    probe = train_probe(tiny_clip, files, [file.parent.name for file in files], precision="auto")
    assert probe.precision == resolve_precision("auto", probe.model.clip)
    assert run("train", "--shots", "all", "--precision", "auto", "--out", "other")[0] == 0
    assert Probe.load("other", device="cpu").precision == probe.precision
    about = Path("mine/probe.json")
    content = json.loads(about.read_text())
    about.write_text(json.dumps({**content, "precision": "fp8"}))
    with pytest.raises(UserError):
        Probe.load("mine", device="cpu")
    content.pop("precision")  # as earlier versions wrote it
    about.write_text(json.dumps(content))
    assert Probe.load("mine", device="cpu").precision == "fp32"


def test_lists_of_shots_and_seeds() -> None:
    assert parse_shots("4, 1,all,4") == [4, 1, "all"]
    assert parse_shots(None) is None
    assert parse_seeds("3,0,3") == [3, 0]
