"""The command, from folders to tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.classification import main
from eval.result import read_results
from pacl.errors import UserError


def run(colour_photos: Path, out: Path, clip: str, *more: str) -> list:
    flags = ["--workers", "0", "--batch", "5", "--templates", "paper"]
    assert main(["custom", "--data", str(colour_photos), "--model", clip, "--out", str(out), *flags, *more]) == 0
    return read_results(out)


def test_the_command_writes_the_same_digits_twice(colour_photos, tiny_clip, tmp_path, capsys):
    flags = ("--probe", "--shots", "1", "4", "all", "--seeds", "0", "1", "--features", "pooled", "patches")
    first = run(colour_photos, tmp_path / "a", tiny_clip, *flags)
    second = run(colour_photos, tmp_path / "b", tiny_clip, *flags)
    third = run(colour_photos, tmp_path / "a", tiny_clip, *flags)  # with kept features
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
    page = (tmp_path / "a/results.md").read_text()
    assert f"**{by_method['phi'].scores['top1']:.1f}**" in page
    assert "custom test" in capsys.readouterr().out


def test_a_part_says_that_it_is_one(colour_photos, tiny_clip, tmp_path, capsys):
    results = run(colour_photos, tmp_path / "out", tiny_clip, "--limit", "6")
    assert all(result.partial and (result.images, result.full) == (6, 12) for result in results)
    assert "6/12" in capsys.readouterr().out
    assert results[0].details["classes_measured"] == 3
    assert set(results[0].details["per_class"]) == {"blue", "green", "red"}


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


def test_mistakes_are_one_line(colour_photos, tiny_clip, tmp_path):
    def told(*argv: str) -> str:
        with pytest.raises(UserError) as error:
            main([*argv, "--model", tiny_clip, "--out", str(tmp_path / "out")])
        return str(error.value)

    data = ("--data", str(colour_photos), "--workers", "0")
    assert "no such data set" in told("cifar11", *data)
    assert "--batch 0" in told("custom", *data, "--batch", "0")
    assert "templates" in told("custom", *data, "--templates", "nothing")
    assert "imagenet_a has no training pictures" in told_probe_of_imagenet_a(told, tmp_path)
    assert "class 'blue' has 12 training pictures" in told(
        "custom", *data, "--probe", "--shots", "16", "--workers", "0"
    )
    (colour_photos / "test/red/0.png").write_bytes(b"broken")
    assert "test/red/0.png" in told("custom", *data)


def told_probe_of_imagenet_a(told, tmp_path: Path) -> str:
    folder = tmp_path / "imagenet-a/n01498041"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    return told("imagenet_a", "--data", str(tmp_path), "--probe")
