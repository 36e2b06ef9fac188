"""The classification command as a whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.classification.linear_probe import probe_results
from eval.classification.run import main
from eval.common.result import read_results
from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import load_backbone
from tests.tiny import trained_head


def run(colour_photos: Path, out: Path, clip: str, *more: str) -> list:
    flags = ["--workers", "0", "--batch", "5", "--templates", "paper"]
    assert main(["custom", "--data", str(colour_photos), "--model", clip, "--out", str(out), *flags, *more]) == 0
    return read_results(out)


def test_the_command_is_reproducible(colour_photos, tiny_clip, tmp_path, capsys):
    flags = ("--probe", "--shots", "1", "4", "all", "--seeds", "0", "1", "--features", "pooled", "patches")
    first = run(colour_photos, tmp_path / "a", tiny_clip, *flags)
    second = run(colour_photos, tmp_path / "b", tiny_clip, *flags)
    third = run(colour_photos, tmp_path / "a", tiny_clip, *flags)  # with cached features
    methods = ["pooled", "phi", "mean"]
    methods += [f"probe {kind} {shots}" for kind in ("pooled", "patches") for shots in ("1", "4", "all")]
    assert [result.method for result in first] == methods
    for one, other, again in zip(first, second, third, strict=True):
        assert one.scores == other.scores == again.scores
        assert one.intervals == other.intervals
        assert one.details == other.details == again.details
    by_method = {result.method: result for result in first}
    assert by_method["probe pooled all"].scores["top1"] > 90  # colours are easily told apart
    assert set(by_method["phi"].scores) == {"top1", "top5", "mean_per_class"}
    low, high = by_method["phi"].intervals["top1"]
    assert low <= by_method["phi"].scores["top1"] <= high
    protocol = by_method["phi"].protocol
    assert (protocol["name"], protocol["templates"], protocol["template_count"]) == ("zero-shot", "paper", 7)
    assert (protocol["names"], protocol["main"], protocol["size"]) == ("folders", "top1", 32)
    probed = by_method["probe pooled 4"]
    assert [each["seed"] for each in probed.details["seeds"]] == [0, 1]
    assert probed.scores["top1"] == pytest.approx(np.mean([each["top1"] for each in probed.details["seeds"]]))
    assert all(
        result.speed["images_per_second"] > 0 and result.speed["peak_memory_mb"] > 0 for result in by_method.values()
    )
    assert len(by_method["probe pooled all"].details["seeds"]) == 1
    page = (tmp_path / "a/custom/results.md").read_text()
    assert f"**{by_method['phi'].scores['top1']:.1f}**" in page
    told = capsys.readouterr()
    assert "custom test" in told.out
    assert f"results in {tmp_path / 'b/custom'}" in told.out
    assert told.err == ""  # no progress bar without a terminal


def test_a_result_on_a_part_states_it(colour_photos, tiny_clip, tmp_path, capsys):
    results = run(colour_photos, tmp_path / "out", tiny_clip, "--limit", "6")
    assert all(result.partial and (result.images, result.full) == (6, 12) for result in results)
    assert "6/12" in capsys.readouterr().out
    assert results[0].details["classes_measured"] == 3
    assert set(results[0].details["per_class"]) == {"blue", "green", "red"}


def test_what_is_left_out_and_trained_on_is_said_once(colour_photos, tiny_clip, tmp_path, capsys):
    (colour_photos / "test/owl").mkdir()
    shutil.copy(colour_photos / "train/red/0.png", colour_photos / "test/red/copy.png")
    run(colour_photos, tmp_path / "out", tiny_clip, "--probe", "--shots", "1", "--seeds", "0")
    told = capsys.readouterr().err
    assert told.count("(owl)") == 1
    assert "1 of 13 test images" in told


def test_images_that_are_there_several_times_are_warned_of(colour_photos, tiny_clip, tmp_path, capsys):
    for copy in ("test/red/copy.png", "test/blue/copy.png"):
        shutil.copy(colour_photos / "test/green/0.png", colour_photos / copy)
    shutil.copy(colour_photos / "test/red/1.png", colour_photos / "test/red/again.png")
    run(colour_photos, tmp_path / "out", tiny_clip)
    told = capsys.readouterr().err
    assert "3 of 15 images are the same file in several classes" in told
    assert "2 of 15 images are files equal to another one of their class" in told


def test_pets_are_scored_by_class(tiny_clip, tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "annotations/test.txt").write_text("Bengal_1 6 1 2\nBengal_2 6 1 2\npug_1 26 2 18\n")
    for name in ("Bengal_1", "Bengal_2", "pug_1"):
        Image.new("RGB", (40, 30)).save(root / "images" / f"{name}.jpg")
    main(["oxford_pets", "--data", str(tmp_path), "--model", tiny_clip, "--out", str(tmp_path / "o"), "--workers", "0",
          "--templates", "none"])  # fmt: skip
    results = read_results(tmp_path / "o")
    assert {result.protocol["main"] for result in results} == {"mean_per_class"}
    assert results[0].details["classes_measured"] == 2
    assert (results[0].images, results[0].full) == (3, 3_669)


def test_a_model_without_a_pooled_embedding_is_refused_as_it_was_named(colour_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained_head(load_backbone("timm:test_resnet/random+static:words"), dense="clip", start="paper").save_pretrained(
        "head"
    )
    with pytest.raises(ArgumentError) as error:
        main(["custom", "--data", str(colour_photos), "--model", "head", "--templates", "none"])
    assert (error.value.argument, error.value.value) == ("model", "head")
    assert not Path("out").exists()


def test_invalid_arguments(colour_photos, tiny_clip, tmp_path):
    def told(*argv: str) -> str:
        with pytest.raises(UserError) as error:
            main([*argv, "--model", tiny_clip, "--out", str(tmp_path / "out")])
        assert broken or not (tmp_path / "out").exists()
        return str(error.value)

    broken = False

    data = ("--data", str(colour_photos), "--workers", "0")
    assert "no such data set" in told("cifar11", *data)
    assert "batch 0:" in told("custom", *data, "--batch", "0")
    assert "templates" in told("custom", *data, "--templates", "nothing")
    assert "imagenet_a has no training images" in told_probe_of_imagenet_a(told, tmp_path)
    assert "split '../test':" in told("custom", *data, "--split", "../test")
    for flag, value, least in (("limit", 0, 1), ("train_limit", 0, 1), ("workers", -1, 0), ("seeds", -1, 0)):
        assert f"{flag} {value}: must be at least {least}" in told("custom", *data, f"--{flag}", str(value))
    assert "train_limit 5: has no effect" in told("custom", *data, "--train_limit", "5")
    assert "shots 1 2: has no effect" in told("custom", *data, "--shots", "1", "2")
    assert "names 'caf\\udce9.txt': " in told("custom", *data, "--names", "caf\udce9.txt")
    broken = True  # it is found while images are measured
    (colour_photos / "test/red/0.png").write_bytes(b"broken")
    assert "test/red/0.png" in told("custom", *data)


def test_too_few_training_images_are_reported_before_the_model_is_loaded(colour_photos, tmp_path):
    def told(*more: str) -> str:
        words = ["custom", "--data", str(colour_photos), "--out", str(tmp_path / "o"), "--model", "nowhere", "--probe"]
        with pytest.raises(UserError) as error:
            main([*words, *more])
        return str(error.value)

    assert "shots 16: class 'blue' has only 12" in told("--shots", "16")
    assert "(--train_limit 2)" in told("--shots", "all", "--train_limit", "2")
    for path in (colour_photos / "train/red").iterdir():
        path.unlink()
    assert "class 'red' has no training images" in told("--shots", "all")


def test_every_setting_has_its_own_folder(colour_photos, tiny_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def folder(*more: str, data: Path = colour_photos) -> Path:
        words = ["custom", "--data", str(data), "--model", tiny_clip, "--workers", "0", "--templates", "none", *more]
        assert main(words) == 0
        found = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("results in "))
        assert {"results.json", "results.md", ".settings.json", ".lock"} == {path.name for path in found.iterdir()}
        return found

    first = folder()
    assert first.parent == Path("out/classification")
    assert first.name.startswith("custom-")
    assert folder() == first
    (tmp_path / "t.txt").write_text("a {}.\n")
    others = [folder("--limit", "6"), folder("--templates", "photo"), folder("--dense", "value"),
              folder("--probe", "--shots", "1"), folder("--templates", "t.txt")]  # fmt: skip
    (tmp_path / "t.txt").write_text("the {}.\n")  # the same flags, but other templates
    shutil.copytree(colour_photos, tmp_path / "others")
    others += [folder("--templates", "t.txt"), folder(data=tmp_path / "others")]
    assert len({first, *others}) == 8
    assert sorted(path.name for path in first.parent.iterdir() if path not in (first, *others)) == ["features"]
    assert all((result.images, result.full) == (6, 12) for result in read_results(others[0]))


@pytest.mark.parametrize("split", ["test", "train"])
def test_images_that_are_replaced_during_a_run_leave_no_results(colour_photos, tiny_clip, tmp_path, monkeypatch, split):
    def replaced(*arguments):
        path = next((colour_photos / split / "red").iterdir())
        path.write_bytes(path.read_bytes())
        return probe_results(*arguments)

    monkeypatch.setattr("eval.classification.linear_probe.probe_results", replaced)
    with pytest.raises(UserError, match="custom"):
        run(colour_photos, tmp_path / "out", tiny_clip, "--probe", "--shots", "all")
    assert not list((tmp_path / "out").rglob("results.json"))


def test_results_of_other_settings_are_not_overwritten(colour_photos, tiny_clip, tmp_path):
    out = tmp_path / "out"
    run(colour_photos, out, tiny_clip, "--limit", "6")
    message = r"out .*custom: .* \(images 6, now 12, limit 6, now none, pictures"
    with pytest.raises(UserError, match=message):
        run(colour_photos, out, tiny_clip)
    assert len(run(colour_photos, out, tiny_clip, "--limit", "6", "--probe", "--shots", "1")) == 4  # nothing is lost
    with pytest.raises(UserError, match="probe pooled 1, which is not measured now"):
        run(colour_photos, out, tiny_clip, "--limit", "6")
    assert [result.images for result in run(colour_photos, out, tiny_clip, "--overwrite")] == [12, 12, 12]


def test_file_names_may_be_any_bytes(colour_photos, tiny_clip, tmp_path):
    odd = colour_photos / os.fsdecode(b"test/red/caf\xe9.png")
    try:
        (colour_photos / "test/red/0.png").rename(odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert run(colour_photos, tmp_path / "out", tiny_clip, "--probe", "--shots", "1")[0].images == 12
    odd.parent.rename(colour_photos / os.fsdecode(b"test/caf\xe9"))
    with pytest.raises(UserError, match=r"class folder 'caf\\udce9' is not UTF-8"):
        run(colour_photos, tmp_path / "out", tiny_clip)


def test_invalid_arguments_are_reported_before_slow_imports(tmp_path):
    """Errors in names and folders need neither torch nor open_clip."""
    script = (
        "import sys\n"
        "from eval.classification.run import main\n"
        "from pacl.errors import UserError\n"
        "try:\n"
        f"    main(['cifar10', '--probe', '--data', {str(tmp_path)!r}, '--out', {str(tmp_path / 'o')!r}])\n"
        "except UserError as error:\n"
        "    print(error)\n"
        "print([name for name in ('torch', 'torchvision', 'open_clip', 'sklearn') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "contains no cifar-10-batches-py" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


def told_probe_of_imagenet_a(told, tmp_path: Path) -> str:
    folder = tmp_path / "imagenet-a/n01498041"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    return told("imagenet_a", "--data", str(tmp_path), "--probe")
