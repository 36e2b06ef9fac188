"""Conversion and check of data sets: what is written, what is reported, what is left unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.segmentation import generate, prepare
from eval.segmentation.registry import BENCHMARKS
from pacl.data.masks import read_mask
from pacl.errors import ArgumentError, UserError
from tests.paths import SHARED

DATA = SHARED / "data"
CONVERTED = ("context59", "context60", "coco_stuff", "coco_object", "cityscapes")


def draw(root: Path, name: str, *words: str) -> Path:
    assert generate.main([name, "--data", str(root), "--count", "3", "--size", "40x60", *words]) == 0
    return root


def run(name: str, root: Path, *words: str) -> int:
    return prepare.main([name, "--data", str(root), "--workers", "1", *words])


def masks(root: Path, name: str) -> list[list[list[int]]]:
    return [item.mask.tolist() for item in BENCHMARKS[name].open(root)]


@pytest.mark.parametrize("name", CONVERTED)
def test_conversion_gives_the_masks_that_are_scored(name, tmp_path, capsys):
    """From the same seed: published labels after conversion, and masks that were drawn directly."""
    raw, done = draw(tmp_path / "raw", name, "--raw"), draw(tmp_path / "done", name)
    assert run(name, raw) == 0
    assert "3 masks written to" in capsys.readouterr().out
    assert masks(raw, name) == masks(done, name)
    files = zip(BENCHMARKS[name].open(raw).files, BENCHMARKS[name].open(done).files, strict=True)
    for (_, _, a), (_, _, b) in files:  # the stored values, before any are ignored
        assert np.array_equal(read_mask(a), read_mask(b))


@pytest.mark.parametrize("folder", ["annotations", "annotations/stuffthingmaps", "stuffthingmaps_trainval2017"])
def test_coco_labels_wherever_they_were_unpacked(folder, tmp_path):
    draw(tmp_path, "coco_stuff", "--raw")
    source = tmp_path / "coco/annotations/stuffthingmaps/val2017"
    target = tmp_path / "coco" / folder / "val2017"
    if target != source:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    assert run("coco_stuff", tmp_path) == run("coco_object", tmp_path) == 0
    assert len(masks(tmp_path, "coco_object")) == 3


def test_several_processes_write_the_same(tmp_path):
    one, two = draw(tmp_path / "one", "cityscapes", "--raw"), draw(tmp_path / "two", "cityscapes", "--raw")
    assert run("cityscapes", one) == 0
    assert run("cityscapes", two, "--workers", "2") == 0
    assert masks(one, "cityscapes") == masks(two, "cityscapes")


def test_a_stopped_conversion_goes_on(tmp_path, capsys):
    draw(tmp_path, "coco_stuff", "--raw")
    run("coco_stuff", tmp_path)
    first, second, _ = sorted(tmp_path.rglob("*_labelTrainIds.png"))
    second.unlink()
    before = first.stat().st_mtime_ns
    capsys.readouterr()
    assert run("coco_stuff", tmp_path) == 0
    assert "1 mask written to" in (out := capsys.readouterr().out)
    assert "2 existed" in out
    assert first.stat().st_mtime_ns == before
    assert not list(tmp_path.rglob(".*"))


def test_check_converts_nothing(tmp_path):
    draw(tmp_path, "coco_stuff", "--raw")
    with pytest.raises(UserError, match=r"stuffthingmaps/val2017 .*python -m eval\.segmentation\.prepare coco_stuff"):
        run("coco_stuff", tmp_path, "--check")
    assert not list(tmp_path.rglob("*TrainIds.png"))


# ---------------------------------------------------------------- elsewhere


@pytest.mark.parametrize("name", CONVERTED)
def test_out_leaves_the_data_as_they_are(name, tmp_path):
    raw, out = draw(tmp_path / "raw", name, "--raw"), tmp_path / "out"
    before = sorted(raw.rglob("*"))
    assert run(name, raw, "--out", str(out)) == 0
    assert run(name, raw, "--out", str(out)) == 0  # and again
    assert sorted(raw.rglob("*")) == before
    assert masks(out, name) == masks(draw(tmp_path / "done", name), name)
    assert BENCHMARKS[name].open(out)[0].image().shape == (40, 60, 3)


def test_a_folder_marked_as_read_only_is_not_written_to(tmp_path):
    """Even for root, who could write there."""
    draw(tmp_path, "coco_stuff", "--raw")
    folders = [tmp_path / "coco/annotations", tmp_path / "coco"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with pytest.raises(UserError, match=r"annotations .*--out"):
            run("coco_stuff", tmp_path)
        with pytest.raises(ArgumentError) as error:
            run("coco_stuff", tmp_path, "--out", str(folders[0] / "out"))
        assert (error.value.argument, error.value.value) == ("out", folders[0] / "out")
        assert [path.name for path in folders[0].iterdir()] == ["stuffthingmaps"]
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_out_with_other_files_in_the_place_of_links(tmp_path):
    draw(tmp_path / "raw", "coco_stuff", "--raw")
    (tmp_path / "out/coco/images/val2017").mkdir(parents=True)
    with pytest.raises(ArgumentError, match=r"out/coco/images/val2017") as error:
        run("coco_stuff", tmp_path / "raw", "--out", str(tmp_path / "out"))
    assert error.value.argument == "out"


def test_out_is_for_conversions(tmp_path):
    draw(tmp_path, "voc21")
    with pytest.raises(ArgumentError) as error:
        run("voc21", tmp_path, "--out", "out")
    assert (error.value.argument, error.value.value) == ("out", Path("out"))


# ---------------------------------------------------------------- what is wrong


def test_the_summary_of_a_check(tmp_path, capsys):
    """Shares of pixels counted by hand; one image of 2,000."""
    base = tmp_path / "ADEChallengeData2016"
    mask = np.repeat(np.array([0, 1, 3], np.uint8), [2, 6, 2])[:, None].repeat(20, axis=1)
    for folder, values in (("images", np.zeros((10, 20, 3), np.uint8)), ("annotations", mask)):
        (base / folder / "validation").mkdir(parents=True)
        Image.fromarray(values).save(base / folder / "validation" / "a.png")
    assert run("ade150", tmp_path) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("1 of 2,000: a sample", "20 to 20", "10 to 10", "20.0% of the pixels", "2 of 150 occur"):
        assert words in out
    assert "wall 75.0%, sky 25.0%" in out
    assert "absent building, floor, tree" in out


@pytest.mark.parametrize("workers", ["1", "2"])
def test_everything_wrong_is_named(workers, tmp_path, capsys):
    draw(tmp_path, "voc21")
    masks_folder = tmp_path / "VOCdevkit/VOC2012/SegmentationClass"
    Image.fromarray(np.full((40, 60), 30, np.uint8)).save(masks_folder / "2012_000001.png")
    Image.fromarray(np.zeros((60, 40), np.uint8)).save(masks_folder / "2012_000002.png")
    image = tmp_path / "VOCdevkit/VOC2012/JPEGImages/2012_000003.jpg"
    image.write_bytes(image.read_bytes()[:500])
    assert prepare.main(["voc21", "--data", str(tmp_path), "--workers", workers]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    assert len(wrong) == 3
    for line, name in zip(wrong, ("2012_000001.png", "2012_000002.jpg", "2012_000003.jpg"), strict=True):
        assert name in line


def test_missing_masks_are_named_and_the_rest_is_checked(tmp_path, capsys):
    draw(tmp_path, "camvid")
    (tmp_path / "CamVid/annotations/val/drawn_00002.png").unlink()
    assert run("camvid", tmp_path) == 1
    out = capsys.readouterr().out
    assert "2 of 101: a sample" in out
    assert "drawn_00002.png" in out
    assert run("camvid", tmp_path, "--partial") == 0


def test_images_without_a_label_file_are_named(tmp_path, capsys):
    draw(tmp_path, "coco_stuff", "--raw")
    raw = tmp_path / "coco/annotations/stuffthingmaps/val2017"
    (raw / "000000000002.png").unlink()
    assert run("coco_stuff", tmp_path) == 1
    assert "000000000002.png" in capsys.readouterr().out
    assert run("coco_stuff", tmp_path, "--partial") == 0


def test_label_files_of_something_else(tmp_path, capsys):
    """The value 11, street sign, has no pixels in COCO-Stuff; the other images are converted all the same."""
    draw(tmp_path, "coco_stuff", "--raw")
    raw = tmp_path / "coco/annotations/stuffthingmaps/val2017"
    Image.fromarray(np.full((40, 60), 11, np.uint8)).save(raw / "000000000001.png")
    (raw / "000000000002.png").write_bytes(b"no PNG")
    assert run("coco_stuff", tmp_path) == 1
    out = capsys.readouterr().out
    assert "1 mask written" in out
    assert "000000000001.png holds the value 11" in out
    assert "000000000002.png" in out


def test_context_with_other_label_numbers_is_not_converted(tmp_path):
    """Such as the numbers of the 400-label version: labels.txt shows them."""
    draw(tmp_path, "context60", "--raw")
    labels = tmp_path / "VOCdevkit/VOC2010/labels.txt"
    labels.write_text(labels.read_text().replace("2: aeroplane", "2: air conditioner"))
    with pytest.raises(UserError, match=r"labels\.txt.*air conditioner.*aeroplane"):
        run("context60", tmp_path)
    assert not list(tmp_path.rglob("SegmentationClassContext/*.png"))


def test_more_images_than_the_split_has(tmp_path, capsys, monkeypatch):
    draw(tmp_path, "camvid")
    monkeypatch.setitem(BENCHMARKS["camvid"].full, "val", 2)
    assert run("camvid", tmp_path) == 1
    assert re.search(r"wrong: .*\b3 images.*\b2$", capsys.readouterr().out, re.MULTILINE)


def test_many_problems_are_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "SHOWN", 2)
    draw(tmp_path, "camvid")
    for path in (tmp_path / "CamVid/annotations/val").iterdir():
        path.write_bytes(b"")
    assert run("camvid", tmp_path) == 1
    out = capsys.readouterr().out
    assert out.count("wrong: ") == 3
    assert "wrong: and 1 more" in out


def test_custom_folders_are_checked_too(tmp_path, capsys):
    base = draw(tmp_path, "camvid") / "CamVid"
    names = Path(prepare.__file__).parent / "names/plain/camvid.txt"
    words = ["--images", str(base / "images/val"), "--masks", str(base / "annotations/val"), "--classes", str(names)]
    assert run("custom", tmp_path, *words, "--ignore", "11") == 0
    assert run("custom", tmp_path, *words) == 1
    assert "value 11" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("voc22",), "voc22"),
        (("voc21",), "voc21.*JPEGImages.*http"),
        (("context60",), "context60.*JPEGImages"),
        (("custom",), "--images, --masks, --classes"),
    ],
)
def test_missing_data_are_named(words, named, tmp_path):
    with pytest.raises(UserError, match=named):
        prepare.main(["--data", str(tmp_path), *words])


def test_at_least_one_worker(tmp_path):
    with pytest.raises(ArgumentError) as error:
        prepare.main(["--data", str(tmp_path), "voc21", "--workers", "0"])
    assert (error.value.argument, error.value.value) == ("workers", 0)


# ---------------------------------------------------------------- real samples


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data sets at {DATA}")
def test_real_coco_labels(tmp_path, capsys):
    """Converted to another folder. The first photo shows a cat, a laptop, a bed and someone's arm."""
    assert run("coco_stuff", DATA, "--split", "train2017", "--out", str(tmp_path)) == 0
    assert run("coco_object", DATA, "--split", "train2017", "--out", str(tmp_path)) == 0
    assert "13 of 118,287: a sample" in capsys.readouterr().out
    stuff = BENCHMARKS["coco_stuff"].open(tmp_path, "train2017")
    things = BENCHMARKS["coco_object"].open(tmp_path, "train2017")
    assert not (DATA / "coco/annotations/train2017").exists()
    first = {stuff.labels[i].name for i in np.unique(stuff[0].mask) if i >= 0}
    assert first == {"person", "cat", "bed", "laptop", "textile-other"}  # raw 0, 16, 64, 72 and 166
    assert {things.labels[i].name for i in np.unique(things[0].mask)} == {
        "background",
        "person",
        "cat",
        "bed",
        "laptop",
    }


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data sets at {DATA}")
@pytest.mark.parametrize("name", ["voc21", "ade150"])
def test_real_samples_are_sound(name, capsys):
    assert run(name, DATA, "--check") == 0
    full = BENCHMARKS[name].full[BENCHMARKS[name].split]
    assert f" of {full:,}: a sample" in capsys.readouterr().out
