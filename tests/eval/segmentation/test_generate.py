"""Drawn data sets: the same from the same seed, in the layouts of the real ones, and never over anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.segmentation import generate
from eval.segmentation.label_maps import CONTEXT_IDS, read_context
from eval.segmentation.registry import BENCHMARKS
from pacl.data.masks import IGNORED, read_mask
from pacl.errors import UserError
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
    assert "1 pictures of" in capsys.readouterr().out


def test_masks_say_what_is_painted(tmp_path):
    """Every pixel with a label is its value's colour, give or take the noise."""
    run(tmp_path, "cityscapes", "--count", "2", "--raw")
    base = tmp_path / "cityscapes"
    for path in base.rglob("*_labelIds.png"):
        values = read_mask(path)
        assert len(np.unique(values)) > 3
        picture = open_image(str(path).replace("gtFine", "leftImg8bit", 1).replace("_gtFine_labelIds", "_leftImg8bit"))
        scored = values != 0
        assert 0.7 < scored.mean() < 1
        difference = picture[scored].astype(int) - generate.COLOURS[values[scored]]
        assert difference.min() >= 0
        assert difference.max() < generate.NOISE
        assert difference.std() > 5


def test_all_classes_come_up(tmp_path):
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
    """As the real ones have: whoever converts them to RGB gets colours, not classes."""
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


def test_splits_in_one_folder_have_pictures_of_their_own(tmp_path):
    """VOC's splits are lists; the second does not end up with the first one's pictures."""
    run(tmp_path, "voc21", "--count", "2")
    run(tmp_path, "voc21", "--count", "2", "--split", "train")
    val, train = (BENCHMARKS["voc21"].open(tmp_path, split) for split in ("val", "train"))
    assert {item.name for item in val}.isdisjoint(item.name for item in train)
    assert not np.array_equal(val[0].mask, train[0].mask)
    assert BENCHMARKS["voc21"].splits(tmp_path) == ["val", "train"]


def test_benchmarks_of_one_data_set_share_pictures(tmp_path):
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
    with pytest.raises(UserError, match="holds files that were not drawn here"):
        run(tmp_path, "ade150")
    assert [path.name for path in tmp_path.iterdir()] == ["VOCdevkit"]
    drawn = tmp_path / "drawn"
    run(drawn, "voc21", "--count", "2")
    before = content(drawn)
    with pytest.raises(UserError, match=r"VOC2012 val was drawn there otherwise \(count 2"):
        run(drawn, "voc20", "--count", "3")
    assert content(drawn) == before
    (drawn / "drawn.json").write_text("[1")
    with pytest.raises(UserError, match=r"drawn\.json cannot be read"):
        run(drawn, "voc21", "--count", "2")


def test_a_folder_marked_as_read_only_stays_as_it_is(tmp_path):
    """Root could write there: the mark counts, not the ability."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        for root in (locked, locked / "new"):
            with pytest.raises(UserError, match=r"locked.* is read-only; choose another folder"):
                run(root, "voc21")
        assert not any(locked.iterdir())
    finally:
        locked.chmod(0o755)


def test_real_pictures_in_place_of_a_split_are_left(tmp_path):
    """The record of one drawing is no leave to draw among files that came later."""
    run(tmp_path, "voc21", "--count", "1")
    real = tmp_path / "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a photograph")
    with pytest.raises(UserError, match="ADEChallengeData2016 validation holds files that were not drawn"):
        run(tmp_path, "ade150", "--count", "1")
    assert real.read_bytes() == b"a photograph"
    assert list(json.loads((tmp_path / "drawn.json").read_text())) == ["VOC2012 val"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("voc22",), "no benchmark voc22: choose from voc20"),
        (("custom",), "no benchmark custom"),
        (("voc21", "--split", "test"), "--split test: voc21 has val, train, trainval"),
        (("voc21", "--raw"), "--raw: voc21 is scored with its labels as they are published"),
        (("voc21", "--count", "0"), "--count 0"),
        (("voc21", "--seed", "-1"), "--seed -1"),
        (("voc21", "--size", "40"), "--size 40: write height and width"),
        (("voc21", "--size", "4x40"), "--size 4x40"),
    ],
)
def test_wrong_words(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        generate.main(["--data", str(tmp_path / "new"), *words])
    assert not (tmp_path / "new").exists()
