"""Every benchmark opens in each of its layouts, reads its labels by its rules, and names what is missing."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.segmentation import generate
from eval.segmentation.arguments import OF_DATA, add_data, find_benchmark
from eval.segmentation.benchmark import NAMES
from eval.segmentation.registry import BENCHMARKS, custom
from pacl.data.masks import IGNORED
from pacl.errors import ArgumentError, UserError
from tests.paths import SHARED

DATA = SHARED / "data"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn images of every benchmark, in one folder."""
    root = tmp_path_factory.mktemp("drawn")
    for name in BENCHMARKS:
        assert generate.main([name, "--data", str(root), "--count", "3", "--size", "40x60"]) == 0
    return root


@pytest.mark.parametrize("name", BENCHMARKS)
def test_all_open(name, root):
    benchmark = BENCHMARKS[name]
    folder = benchmark.open(root)
    assert len(folder) == 3
    assert len(folder.labels) == benchmark.classes
    assert benchmark.splits(root) == [benchmark.split]
    for item in folder:
        assert item.image().shape == (40, 60, 3)
        assert item.mask.shape == (40, 60)
        assert item.mask.max() < benchmark.classes
        assert item.mask.min() >= IGNORED
        assert len(np.unique(item.mask)) > 2
    assert [item.name for item in benchmark.open(root, limit=2)] == [item.name for item in folder][:2]


def one(root: Path, name: str, mask: list[int], image: str, file: str) -> list[int]:
    """What a benchmark makes of one row of stored values."""
    for path, values in ((image, np.zeros((1, len(mask), 3))), (file, np.array([mask]))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8)).save(root / path)
    for only in BENCHMARKS[name].layout.only[:1]:
        path = root / BENCHMARKS[name].layout.bases[0] / only.format(split="val")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{Path(image).stem}\n")
    return BENCHMARKS[name].open(root)[0].mask[0].tolist()


@pytest.mark.parametrize(
    ("name", "stored", "expected", "image", "mask"),
    [
        ("voc20", [0, 1, 20, 255], [-1, 0, 19, -1], "VOCdevkit/VOC2012/JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("voc21", [0, 1, 20, 255], [0, 1, 20, -1], "VOCdevkit/VOC2012/JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("context59", [0, 1, 59], [-1, 0, 58], "VOCdevkit/VOC2010/JPEGImages/a.jpg", "SegmentationClassContext/a.png"),
        ("context60", [0, 1, 59], [0, 1, 59], "VOCdevkit/VOC2010/JPEGImages/a.jpg", "SegmentationClassContext/a.png"),
        ("coco_stuff", [0, 170, 255], [0, 170, -1], "coco/images/val2017/a.jpg",
         "annotations/val2017/a_labelTrainIds.png"),
        ("coco_object", [0, 1, 80], [0, 1, 80], "coco/images/val2017/a.jpg",
         "annotations/val2017/a_instanceTrainIds.png"),
        ("ade150", [0, 1, 150], [-1, 0, 149], "ADEChallengeData2016/images/validation/a.jpg",
         "annotations/validation/a.png"),
        ("cityscapes", [0, 18, 255], [0, 18, -1], "cityscapes/leftImg8bit/val/ulm/u_leftImg8bit.png",
         "gtFine/val/ulm/u_gtFine_labelTrainIds.png"),
        ("camvid", [0, 10, 11], [0, 10, -1], "CamVid/images/val/a.png", "annotations/val/a.png"),
    ],
)  # fmt: skip
def test_label_rules(name, stored, expected, image, mask, tmp_path):
    base = BENCHMARKS[name].layout.bases[0]
    assert one(tmp_path, name, stored, image, f"{base}/{mask}") == expected


def test_values_outside_the_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.png .*21.*voc21\.txt"):
        one(tmp_path, "voc21", [21], "VOCdevkit/VOC2012/JPEGImages/a.jpg", "VOCdevkit/VOC2012/SegmentationClass/a.png")
    ade = "ADEChallengeData2016"
    with pytest.raises(UserError, match=r"a\.png .*151.*ade150\.txt"):
        one(tmp_path, "ade150", [151], f"{ade}/images/validation/a.jpg", f"{ade}/annotations/validation/a.png")


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("voc21", {"VOCdevkit/VOC2012": "VOC2012"}),
        ("voc21", {"VOCdevkit/VOC2012": "."}),
        ("context59", {"VOCdevkit/VOC2010": "VOC2010"}),
        ("context60", {"VOCdevkit/VOC2010": ".", "ImageSets/SegmentationContext": "ImageSets/Main"}),
        ("coco_stuff", {"coco": "coco_stuff164k"}),
        ("coco_stuff", {"coco/images/val2017": "coco/val2017"}),
        ("coco_object", {"coco": "coco_object"}),
        ("coco_object", {"coco": "."}),
        ("ade150", {"ADEChallengeData2016": "ade/ADEChallengeData2016"}),
        ("ade150", {"ADEChallengeData2016": "."}),
        ("cityscapes", {"cityscapes": "Cityscapes"}),
        ("camvid", {"CamVid": "camvid"}),
        ("camvid", {"CamVid/images/val": "CamVid/val", "CamVid/annotations/val": "CamVid/valannot"}),
    ],
)
def test_alternative_folders(name, moved, root, tmp_path):
    base = BENCHMARKS[name].layout.bases[0]
    shutil.copytree(root / base, tmp_path / "x" / base)
    for old, new in moved.items():
        source, target = tmp_path / "x" / old, tmp_path / "x" / new
        if new == ".":
            for path in list(source.iterdir()):
                path.rename(target / path.name)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    expected = [(item.name, item.mask.tolist()) for item in BENCHMARKS[name].open(root)]
    assert [(item.name, item.mask.tolist()) for item in BENCHMARKS[name].open(tmp_path / "x")] == expected


def test_a_folder_with_masks_wins_over_one_with_images_alone(root, tmp_path):
    """COCO-Object prepared in a folder of its own, beside plain COCO."""
    shutil.copytree(root / "coco", tmp_path / "coco_object")
    shutil.copytree(root / "coco" / "images", tmp_path / "coco" / "images")
    assert "coco_object" in BENCHMARKS["coco_object"].open(tmp_path).masks


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_empty_folder_names_the_path_and_the_source(name, tmp_path):
    benchmark = BENCHMARKS[name]
    with pytest.raises(UserError) as caught:
        benchmark.open(tmp_path)
    path = tmp_path / benchmark.layout.bases[0] / benchmark.layout.images[0].replace("{split}", benchmark.split)
    assert str(path) in str(caught.value)
    assert benchmark.source in str(caught.value)


def test_without_a_folder_the_flag_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--data ROOT"):
        BENCHMARKS["voc20"].open(Path())


def test_other_splits_are_suggested(root):
    with pytest.raises(UserError, match=r"Segmentation/train\.txt .* val\b"):
        BENCHMARKS["voc20"].open(root, "train")
    with pytest.raises(UserError, match=r"images/train2017 .*val2017"):
        BENCHMARKS["coco_stuff"].open(root, "train2017")


def test_masks_that_are_not_converted_yet(root, tmp_path):
    shutil.copytree(root / "coco" / "images", tmp_path / "coco" / "images")
    with pytest.raises(UserError, match=r"https.*coco/annotations/stuffthingmaps/val2017"):
        BENCHMARKS["coco_stuff"].open(tmp_path)
    raw = tmp_path / "stuffthingmaps_trainval2017/val2017"
    raw.mkdir(parents=True)
    (raw / "000000000001.png").touch()
    command = f"python -m eval.segmentation.prepare coco_object --data {tmp_path} --split val2017"
    with pytest.raises(UserError, match=r"stuffthingmaps_trainval2017/val2017 .*" + command):
        BENCHMARKS["coco_object"].open(tmp_path)


def test_converted_masks_do_not_count_as_raw_labels(root, tmp_path):
    shutil.copytree(root / "coco", tmp_path / "coco")
    for path in (tmp_path / "coco/annotations/val2017").glob("*_instanceTrainIds.png"):
        path.unlink()
    assert BENCHMARKS["coco_object"].layout.find(tmp_path, "val2017").raw is None
    with pytest.raises(UserError, match=r"https.*stuffthingmaps/val2017"):
        BENCHMARKS["coco_object"].open(tmp_path)
    assert len(BENCHMARKS["coco_stuff"].open(tmp_path)) == 3


def test_some_masks_are_missing(root, tmp_path):
    shutil.copytree(root / "ADEChallengeData2016", tmp_path / "ADEChallengeData2016")
    first = BENCHMARKS["ade150"].open(tmp_path).files[0]
    first[2].unlink()
    with pytest.raises(UserError, match=r"ADE_val_00000001\.png.*partial"):
        BENCHMARKS["ade150"].open(tmp_path)
    assert len(BENCHMARKS["ade150"].open(tmp_path, partial=True)) == 2


def test_the_folder_of_the_data_sets_has_to_exist(tmp_path):
    with pytest.raises(ArgumentError) as error:
        BENCHMARKS["voc20"].open(tmp_path / "none")
    assert (error.value.argument, error.value.value) == ("data", tmp_path / "none")


# ---------------------------------------------------------------- names


def test_lists_of_names(root, tmp_path):
    voc = BENCHMARKS["voc20"]
    assert voc.lists() == ("plain", "sclip", "clearclip", "proxyclip", "everyday")
    assert BENCHMARKS["camvid"].lists() == ("plain",)
    assert voc.open(root).labels[3].prompts == ("boat",)
    assert voc.open(root, names="sclip").labels[3].prompts == ("ship",)
    assert voc.open(root, names="everyday").labels[3].prompts == ("boat", "ship")
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"thing {i}" for i in range(20)))
    assert voc.open(root, names=str(own)).labels[3].prompts == ("thing 3",)
    with pytest.raises(ArgumentError) as error:
        BENCHMARKS["camvid"].open(root, names="sclip")
    assert (error.value.argument, error.value.value) == ("names", "sclip")
    with pytest.raises(UserError, match=r"own\.txt .*20.* 21"):
        BENCHMARKS["voc21"].open(root, names=str(own))


def test_published_names_open_although_a_word_is_shared(root):
    """ "bed" is a class of COCO-Object and a word for its background."""
    labels = BENCHMARKS["coco_object"].open(root, names="sclip").labels
    assert [label.name for label in labels if "bed" in label.prompts] == ["background", "bed"]


# ---------------------------------------------------------------- custom


def test_custom(root, tmp_path, monkeypatch):
    """CamVid as a folder of one's own; its paths are not relative to ROOT."""
    monkeypatch.chdir(root / "CamVid")
    parser = argparse.ArgumentParser(add_help=False)
    add_data(parser)
    assert {action.dest for action in parser._actions} == set(OF_DATA)
    names = str(NAMES / "plain" / "camvid.txt")
    words = ["--data", str(tmp_path), "--images", "images/val", "--masks", "annotations/val", "--classes", names]
    args = parser.parse_args([*words, "--ignore", "11"])
    benchmark = find_benchmark("custom", args)
    assert (benchmark.title, benchmark.background, benchmark.full, benchmark.lists()) == ("val", False, {}, (names,))
    folder = benchmark.open(args.data, args.split)
    expected = [item.mask.tolist() for item in BENCHMARKS["camvid"].open(root)]
    assert [item.mask.tolist() for item in folder] == expected
    assert [item.mask.tolist() for item in benchmark.open(args.data, names=names)] == expected
    with pytest.raises(UserError, match="--masks, --classes"):
        find_benchmark("custom", parser.parse_args(["--images", "images/val"]))
    with pytest.raises(UserError, match=f"{tmp_path}/none"):
        custom(tmp_path / "none", tmp_path, names).open(tmp_path)
    with pytest.raises(UserError, match=r"\bvoc\b.*voc20, .*custom"):
        find_benchmark("voc", args)


def test_custom_with_offset_background_and_a_list(tmp_path):
    for name in "ab":
        for kind, values in (("images", [[9, 9, 9]]), ("masks", [[1, 2, 7]])):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(np.array(values, np.uint8)).save(tmp_path / kind / f"{name}.png")
    (tmp_path / "names.txt").write_text("background\ncat\n")
    (tmp_path / "only.txt").write_text("b\n")
    paths = [tmp_path / name for name in ("images", "masks", "names.txt")]
    benchmark = custom(*paths, only=tmp_path / "only.txt", ignore=(7,), offset=1, background=True)
    folder = benchmark.open(".")
    assert benchmark.background
    assert [(item.name, item.mask.tolist()) for item in folder] == [("b", [[0, 1, IGNORED]])]


# ---------------------------------------------------------------- real samples


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data sets at {DATA}")
@pytest.mark.parametrize(
    ("name", "split", "image", "expected"),
    [
        ("voc20", "val", "2007_000032", {"aeroplane", "person"}),
        ("voc21", "val", "2007_000032", {"background", "aeroplane", "person"}),
        ("ade150", "validation", "ADE_val_00000002", {"wall", "building", "sky", "tree", "earth", "plant"}),
        ("camvid", "val", "0016E5_07959", set(Path(NAMES / "plain/camvid.txt").read_text().splitlines()[2:])),
    ],
)
def test_real_samples_by_name(name, split, image, expected):
    folder = BENCHMARKS[name].open(DATA, split)
    item = next(item for item in folder if item.name == image)
    assert {folder.labels[i].name for i in np.unique(item.mask) if i >= 0} == expected
