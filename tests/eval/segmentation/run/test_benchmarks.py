"""Every benchmark, on drawn data, and one of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from eval.segmentation import generate
from eval.segmentation import run as segmentation
from eval.segmentation.registry import BENCHMARKS
from eval.segmentation.results import FEWEST_IMAGES
from pacl.errors import ArgumentError, UserError
from tests.eval.segmentation.run.command import draw, run


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_and_its_lists_of_names(tmp_path, tiny_clip, name):
    draw(name, tmp_path / "data", 2)
    lists = BENCHMARKS[name].lists()
    words = (name, "--data", str(tmp_path / "data"), "--names", *lists, "--no_figures")
    results = run(tmp_path, tiny_clip, *words)
    assert [r.protocol["names"] for r in results] == list(lists)
    for result in results:
        assert (result.dataset, result.images, result.partial) == (name, 2, True)
        assert result.full == BENCHMARKS[name].full[BENCHMARKS[name].split]
        assert len(result.details["classes"]) == BENCHMARKS[name].classes
        assert 0 <= result.scores["miou"] <= 100
        assert result.intervals == {}  # of so few images it would say nothing


def test_drawn_pictures_are_no_result_of_the_benchmark(tmp_path, tiny_clip):
    root = str(tmp_path / "data")
    assert generate.main(["voc20", "--data", root, "--count", "2", "--size", "40x60"]) == 0
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root)
    assert (result.dataset, result.images, result.full) == ("voc20-drawn", 2, 2)
    assert "drawn" in (tmp_path / "out" / "voc20-drawn" / "results.md").read_text()
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root, "--limit", "1", out="less")
    assert (result.images, result.full, result.partial) == (1, 2, True)


def test_enough_images_have_an_interval(tmp_path, tiny_clip):
    root, count = str(tmp_path / "data"), FEWEST_IMAGES
    assert generate.main(["voc20", "--data", root, "--count", str(count), "--size", "40x60"]) == 0
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root, "--no_figures")
    assert result.intervals["miou"][0] <= result.intervals["miou"][1]
    (result,) = run(tmp_path, tiny_clip, "voc20", "--data", root, "--no_figures", "--limit", str(count - 1), out="less")
    assert result.intervals == {}


def test_a_benchmark_of_ones_own(tmp_path, tiny_clip):
    for folder, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (50, 40), 5).save(tmp_path / folder / "a.png")
    (tmp_path / "names.txt").write_text("sky\ngrass\n")
    common = (
        "custom", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"),
        "--classes", str(tmp_path / "names.txt"), "--offset", "4",
    )  # fmt: skip
    (result,) = run(tmp_path, tiny_clip, *common)
    assert (result.full, result.split) == (1, "all")
    assert result.details["classes"] == ["sky", "grass"]
    iou = result.details["iou"]
    assert iou[0] in (0.0, None)  # no pixel is sky
    assert result.scores["pixel_accuracy"] == pytest.approx(iou[1])  # all are grass
    with pytest.raises(UserError, match="value 5"):
        run(tmp_path, tiny_clip, *common[:-1], "0", out="other")


def test_what_is_wrong_with_ones_own_data_is_said_of_the_folders_as_they_are(tmp_path, tiny_clip, monkeypatch, capsys):
    """Without steps back in their paths; the figures of published benchmarks have no bearing on them."""
    for folder in ("images", "masks", "here"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        Image.new("RGB", (50, 40)).save(tmp_path / "images" / f"{name}.png")
    Image.new("L", (50, 40)).save(tmp_path / "masks" / "a.png")
    (tmp_path / "names.txt").write_text("sky\ngrass\n")
    monkeypatch.chdir(tmp_path / "here")
    words = ["custom", "--images", "../images", "--masks", "../masks", "--classes", "../names.txt"]
    with pytest.raises(UserError, match="set partial") as error:
        run(tmp_path, tiny_clip, *words)
    assert ".." not in str(error.value)
    noted = []
    monkeypatch.setattr(segmentation, "note_own_protocol", lambda *each: noted.append(each))
    run(tmp_path, tiny_clip, *words, "--partial", out="partial")
    assert not noted


def test_each_benchmark_has_its_own_peak(tmp_path, tiny_clip):
    draw("voc20", tmp_path / "data", 1)
    root = str(tmp_path / "data")
    assert generate.main(["cityscapes", "--data", str(tmp_path / "large"), "--count", "1", "--size", "1024x2048"]) == 0
    (tmp_path / "large" / "cityscapes").rename(tmp_path / "data" / "cityscapes")
    words = ("cityscapes", "voc20", "--data", root, "--method", "clip", "--no_figures", "--refine", "1")
    large, small = (r.speed["peak_memory_beyond_the_model_mb"] for r in run(tmp_path, tiny_clip, *words))
    assert large > small + 100


@pytest.mark.parametrize("flag", ["images", "masks", "classes", "only", "palette"])
def test_what_a_benchmark_of_ones_own_lacks_is_named_by_its_flag(tmp_path, flag):
    """The code calls the class file "names", the folders are made absolute, and so on."""
    (tmp_path / "names.txt").write_text("sky\n")
    there = {"images": tmp_path, "masks": tmp_path, "classes": tmp_path / "names.txt", flag: Path("three")}
    words = [word for name, path in there.items() for word in (f"--{name}", str(path))]
    with pytest.raises(ArgumentError) as error:
        segmentation.main(["custom", *words])
    assert (error.value.argument, error.value.value) == (flag, "three")


def test_data_of_all_benchmarks_are_looked_for_before_any_is_measured(tmp_path, tiny_clip, voc):
    with pytest.raises(UserError, match="cityscapes"):
        run(tmp_path, tiny_clip, "voc20", "cityscapes", "--data", str(voc))
    assert not (tmp_path / "out").exists()
