"""Drawn data sets: deterministic, in the layouts of the real ones, and never over existing files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.segmentation import drawn_data, generate
from eval.segmentation.benchmark import NAMES
from eval.segmentation.label_maps import CONTEXT_IDS, read_context
from eval.segmentation.layout import FileLayout
from eval.segmentation.registry import BENCHMARKS
from pacl.data.masks import IGNORED, read_mask
from pacl.errors import ArgumentError, UserError
from pacl.images import open_image

SMALL = ("--size", "40x60")


def run(root: Path, *words: str) -> int:
    return generate.main([*words, "--data", str(root), *SMALL])


def content(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("name", "words", "files"),
    [
        ("voc20", (), ("VOCdevkit/VOC2012/JPEGImages/2012_000001.jpg",
                       "VOCdevkit/VOC2012/SegmentationClass/2012_000001.png",
                       "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt")),
        ("context59", (), ("VOCdevkit/VOC2010/JPEGImages/2010_000001.jpg",
                           "VOCdevkit/VOC2010/SegmentationClassContext/2010_000001.png",
                           "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt")),
        ("context60", ("--raw",), ("VOCdevkit/VOC2010/JPEGImages/2010_000001.jpg",
                                   "VOCdevkit/VOC2010/trainval/2010_000001.mat",
                                   "VOCdevkit/VOC2010/labels.txt", "VOCdevkit/VOC2010/ImageSets/Main/val.txt")),
        ("coco_stuff", (), ("coco/images/val2017/000000000001.jpg",
                            "coco/annotations/val2017/000000000001_labelTrainIds.png")),
        ("coco_stuff", ("--raw", "--split", "train2017"),
         ("coco/images/train2017/000000000001.jpg", "coco/annotations/stuffthingmaps/train2017/000000000001.png")),
        ("coco_object", (), ("coco/images/val2017/000000000001.jpg",
                             "coco/annotations/val2017/000000000001_instanceTrainIds.png")),
        ("ade150", (), ("ADEChallengeData2016/images/validation/ADE_val_00000001.jpg",
                        "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png")),
        ("cityscapes", (), ("cityscapes/leftImg8bit/val/drawn/drawn_000001_000019_leftImg8bit.png",
                            "cityscapes/gtFine/val/drawn/drawn_000001_000019_gtFine_labelTrainIds.png")),
        ("cityscapes", ("--raw",), ("cityscapes/leftImg8bit/val/drawn/drawn_000001_000019_leftImg8bit.png",
                                    "cityscapes/gtFine/val/drawn/drawn_000001_000019_gtFine_labelIds.png")),
        ("camvid", (), ("CamVid/images/val/drawn_00001.jpg", "CamVid/annotations/val/drawn_00001.png")),
    ],
)  # fmt: skip
def test_layouts(name, words, files, tmp_path, capsys):
    assert run(tmp_path, name, "--count", "1", *words) == 0
    assert set(content(tmp_path)) == {*files, "drawn.json"}
    assert "1 image of" in capsys.readouterr().out


def test_masks_match_the_images(tmp_path):
    """Every pixel with a label has its value's colour plus noise."""
    run(tmp_path, "cityscapes", "--count", "2", "--raw")
    base = tmp_path / "cityscapes"
    for path in base.rglob("*_labelIds.png"):
        values = read_mask(path)
        assert len(np.unique(values)) > 3
        image = open_image(str(path).replace("gtFine", "leftImg8bit", 1).replace("_gtFine_labelIds", "_leftImg8bit"))
        scored = values != 0
        assert 0.7 < scored.mean() < 1
        difference = image[scored].astype(int) - drawn_data.COLOURS[values[scored]]
        assert difference.min() >= 0
        assert difference.max() < drawn_data.NOISE
        assert difference.std() > 5


def test_all_classes_are_drawn(tmp_path):
    run(tmp_path, "voc21", "--count", "40")
    pixels = [item.mask for item in BENCHMARKS["voc21"].open(tmp_path)]
    assert set(np.unique(pixels)) == {IGNORED, *range(21)}


def test_published_context_labels(tmp_path):
    run(tmp_path, "context60", "--count", "20", "--raw")
    base = tmp_path / "VOCdevkit/VOC2010"
    values = {int(v) for path in base.glob("trainval/*.mat") for v in np.unique(read_context(path))}
    assert values <= {0, 1, 459, *CONTEXT_IDS.values()}
    assert {1, 459} & values
    assert "308: pottedplant" in (base / "labels.txt").read_text().splitlines()


def test_masks_of_pascal_have_a_palette(tmp_path):
    """As the real ones have: converted to RGB they are colours, not classes."""
    run(tmp_path, "voc21", "--count", "1")
    with Image.open(next(tmp_path.rglob("SegmentationClass/*.png"))) as mask:
        assert mask.mode == "P"


def test_the_seed_decides(tmp_path):
    for folder, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        run(tmp_path / folder, "ade150", "--count", "3", "--seed", seed)
    a, b, c = (content(tmp_path / folder) for folder in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a)


def test_splits_differ(tmp_path):
    run(tmp_path, "camvid", "--count", "2")
    run(tmp_path, "camvid", "--count", "2", "--split", "train")
    found = content(tmp_path / "CamVid")
    assert len(found) == len(set(found.values())) == 8


def test_splits_in_one_folder_have_different_images(tmp_path):
    """VOC's splits are lists of one folder's images; drawing the second adds images."""
    run(tmp_path, "voc21", "--count", "2")
    run(tmp_path, "voc21", "--count", "2", "--split", "train")
    val, train = (BENCHMARKS["voc21"].open(tmp_path, split) for split in ("val", "train"))
    assert {item.name for item in val}.isdisjoint(item.name for item in train)
    assert not np.array_equal(val[0].mask, train[0].mask)
    assert BENCHMARKS["voc21"].splits(tmp_path) == ["val", "train"]


def test_benchmarks_of_one_data_set_share_images(tmp_path):
    run(tmp_path, "coco_stuff", "--count", "2")
    before = content(tmp_path / "coco" / "images")
    run(tmp_path, "coco_object", "--count", "2")
    assert content(tmp_path / "coco" / "images") == before
    stuff, things = (BENCHMARKS[name].open(tmp_path) for name in ("coco_stuff", "coco_object"))
    for a, b in zip(stuff, things, strict=True):
        assert np.array_equal(b.mask, np.where((a.mask >= 0) & (a.mask < 80), a.mask + 1, 0))


def test_a_stopped_run_goes_on(tmp_path):
    run(tmp_path, "voc21", "--count", "3")
    whole = content(tmp_path)
    kept = next(tmp_path.rglob("2012_000001.jpg"))
    before = kept.stat().st_mtime_ns
    next(tmp_path.rglob("2012_000002.png")).unlink()
    run(tmp_path, "voc21", "--count", "3")
    assert content(tmp_path) == whole
    assert kept.stat().st_mtime_ns == before


def test_other_files_are_never_touched(tmp_path):
    (tmp_path / "VOCdevkit").mkdir()
    with pytest.raises(ArgumentError) as error:
        run(tmp_path, "ade150")
    assert (error.value.argument, error.value.value) == ("data", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["VOCdevkit"]
    drawn = tmp_path / "drawn"
    run(drawn, "voc21", "--count", "2")
    before = content(drawn)
    with pytest.raises(ArgumentError, match=r"VOC2012 val .*count 2"):
        run(drawn, "voc20", "--count", "3")
    assert content(drawn) == before
    for text in ("[1", "[" * 3000, '[["VOC2012 val", 1]]', '{"VOC2012 val": 1}'):
        (drawn / "drawn.json").write_text(text)
        with pytest.raises(UserError, match=r"drawn\.json"):
            run(drawn, "voc21", "--count", "2")


def test_a_folder_marked_as_read_only_stays_as_it_is(tmp_path):
    """Even for root, who could write there."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        for root in (locked, locked / "new"):
            with pytest.raises(ArgumentError) as error:
                run(root, "voc21")
            assert (error.value.argument, error.value.value) == ("data", root)
        assert not any(locked.iterdir())
    finally:
        locked.chmod(0o755)


def test_real_images_in_place_of_a_split_are_left(tmp_path):
    """Although the folder of the data sets has a record of another drawing."""
    run(tmp_path, "voc21", "--count", "1")
    real = tmp_path / "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a photograph")
    with pytest.raises(UserError, match="ADEChallengeData2016 validation"):
        run(tmp_path, "ade150", "--count", "1")
    assert real.read_bytes() == b"a photograph"
    assert list(json.loads((tmp_path / "drawn.json").read_text())) == ["VOC2012 val"]


def test_only_drawn_splits_count_as_drawn(tmp_path):
    """A record above a folder of images does not make other data sets, splits or folders drawn ones."""
    run(tmp_path, "camvid", "--count", "1")
    camvid, ade = BENCHMARKS["camvid"].layout, BENCHMARKS["ade150"].layout
    images = tmp_path / "CamVid/images/val"
    assert drawn_data.was_drawn(camvid, images, "val")
    assert not drawn_data.was_drawn(camvid, tmp_path / "CamVid/images/test", "test")
    assert not drawn_data.was_drawn(ade, tmp_path / "ADEChallengeData2016/images/validation", "validation")
    assert not drawn_data.was_drawn(camvid, tmp_path / "real/CamVid/images/val", "val")
    (tmp_path / "CamVid").rename(tmp_path / "camvid")
    (tmp_path / "link").symlink_to(tmp_path / "camvid/images/val")
    assert drawn_data.was_drawn(camvid, tmp_path / "link", "val")


def test_a_benchmark_without_a_style(tmp_path, monkeypatch):
    layout = FileLayout(bases=("mine",), images=("images",), masks=("masks",))
    mine = replace(BENCHMARKS["camvid"], name="mine", layout=layout, names=str(NAMES / "plain/camvid.txt"))
    monkeypatch.setitem(BENCHMARKS, "mine", mine)
    run(tmp_path, "mine", "--count", "20")
    folder = mine.open(tmp_path)
    assert set(np.unique([item.mask for item in folder])) == {IGNORED, *range(11)}


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (("voc21", "--split", "test"), "split"),
        (("voc21", "--count", "0"), "count"),
        (("voc21", "--seed", "-1"), "seed"),
        (("voc21", "--size", "40"), "size"),
        (("voc21", "--size", "4x40"), "size"),
    ],
)
def test_wrong_values(words, argument, tmp_path):
    with pytest.raises(ArgumentError) as error:
        generate.main(["--data", str(tmp_path / "new"), *words])
    assert error.value.argument == argument
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "named"), [(("voc22",), "voc22"), (("custom",), "custom"), (("voc21", "--raw"), "--raw")]
)
def test_what_cannot_be_drawn(words, named, tmp_path):
    with pytest.raises(UserError, match=named):
        generate.main(["--data", str(tmp_path / "new"), *words])
    assert not (tmp_path / "new").exists()


def test_standard_error_that_is_no_terminal_stays_empty(tmp_path, capsys):
    assert generate.main(["voc20", "--data", str(tmp_path / "data"), "--count", "2", "--size", "40x60"]) == 0
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (1, "")
