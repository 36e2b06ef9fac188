"""Caption data sets can be read in every official layout, and missing files are reported."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from eval.retrieval.caption_sets import KARPATHY, open_captions
from pacl.data.pairs import hold_out
from pacl.errors import UserError
from tests.paths import SHARED

SAMPLES = SHARED / "data"


def pictures(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(folder / name)


def table(path: Path, names: Sequence[str], captions: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        rows.writerows([name, f"{name}, caption {i}"] for name in names for i in range(captions))


def karpathy(path: Path, entries: Sequence[dict], captions: int = 5) -> None:
    images = [
        {"sentences": [{"raw": f" {entry['filename']}\ncaption {i} "} for i in range(captions)], **entry}
        for entry in entries
    ]
    path.write_text(json.dumps({"images": images, "dataset": "x"}))


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    names = [f"{i}.jpg" for i in range(6)]
    pictures(tmp_path / "Images", names)
    table(tmp_path / "captions.txt", names)
    return tmp_path


def test_all_of_flickr8k(flickr):
    found = open_captions("flickr8k", flickr, "all")
    assert (found.split, found.annotations, len(found.source), found.full) == ("all", "captions.txt", 6, 6)
    assert found.captions[2] == [f"2.jpg, caption {i}" for i in range(5)]
    texts, owners = found.texts()
    assert len(texts) == 30
    assert owners == [i for i in range(6) for _ in range(5)]
    assert found.source.image(0).shape == (8, 8, 3)


def test_flickr8k_with_its_official_list_and_token_file(tmp_path):
    names = [f"{i}.jpg" for i in range(6)]
    pictures(tmp_path / "Flicker8k_Dataset", names)
    text = tmp_path / "Flickr8k_text"
    text.mkdir()
    lines = [f'{name}#{i}\tA "dog" , {i} .' for name in names for i in range(5)]
    (text / "Flickr8k.token.txt").write_text("\n".join(lines))
    (text / "Flickr_8k.testImages.txt").write_text("4.jpg\n1.jpg\n")
    found = open_captions("flickr8k", tmp_path)
    assert (found.split, found.annotations, found.full) == ("test", "Flickr_8k.testImages.txt", 1000)
    assert [Path(found.source.name(i)).name for i in range(2)] == ["1.jpg", "4.jpg"]
    assert found.captions[0][4] == 'A "dog" , 4 .'
    assert len(open_captions("flickr8k", tmp_path, "all").source) == 6
    (text / "Flickr_8k.testImages.txt").write_text("4.jpg\n9.jpg\n")
    with pytest.raises(UserError, match="1 of its 2 images"):
        open_captions("flickr8k", tmp_path)


@pytest.mark.parametrize(("name", "folder"), [("flickr8k", "Images"), ("flickr30k", "flickr30k-images")])
def test_karpathys_split_has_five_captions_per_image(name, folder, tmp_path):
    pictures(tmp_path / folder, ["a.jpg", "b.jpg", "c.jpg"])
    parts = [("a.jpg", "train"), ("b.jpg", "test"), ("c.jpg", "test")]
    karpathy(tmp_path / f"dataset_{name}.json", [{"filename": n, "split": s} for n, s in parts], captions=7)
    found = open_captions(name, tmp_path)
    assert (found.split, found.annotations, len(found.source), found.full) == (
        "test",
        f"dataset_{name}.json",
        2,
        1000,
    )
    assert found.captions[0] == [f"b.jpg caption {i}" for i in range(5)]  # the first five, on one line


@pytest.mark.parametrize(
    "places",
    [
        ["val2014/COCO_val2014_000000000007.jpg", "val2014/COCO_val2014_000000000009.jpg"],
        ["images/val2014/COCO_val2014_000000000007.jpg", "images/val2014/COCO_val2014_000000000009.jpg"],
        ["train2017/000000000007.jpg", "val2017/000000000009.jpg"],  # the same pictures, as published in 2017
    ],
)
def test_coco_with_karpathys_split(places, tmp_path):
    pictures(tmp_path, places)
    (tmp_path / "annotations").mkdir()
    entries = [
        {"filename": f"COCO_val2014_{i:012d}.jpg", "filepath": "val2014", "cocoid": i, "split": "test"} for i in (7, 9)
    ]
    karpathy(tmp_path / "annotations" / "dataset_coco.json", entries)
    found = open_captions("coco", tmp_path)
    assert (found.split, found.annotations, found.full) == ("test", "dataset_coco.json", 5000)
    assert [found.source.name(i) for i in range(2)] == [str(tmp_path / place) for place in places]


def test_coco_without_karpathys_split_is_val2017(tmp_path):
    pictures(tmp_path / "val2017", ["1.jpg", "2.jpg"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val2017.json").write_text(
        json.dumps(
            {
                "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2, 3)],
                "annotations": [{"image_id": i, "caption": f"{i} {k}"} for k in range(6) for i in (1, 2, 3)],
            }
        )
    )
    with pytest.raises(UserError, match=r"1 of the 3 images .*3\.jpg; set partial"):
        open_captions("coco", tmp_path)
    found = open_captions("coco", tmp_path, partial=True)
    assert (found.split, found.annotations, len(found.source), found.full) == (
        "val2017",
        "captions_val2017.json",
        2,
        5000,
    )
    assert found.captions == [[f"{i} {k}" for k in range(5)] for i in (1, 2)]
    with pytest.raises(UserError, match=r"split test: .*val2017.*dataset_coco\.json"):
        open_captions("coco", tmp_path, "test")


def test_custom_uses_every_caption(flickr):
    table(flickr / "own.csv", ["0.jpg", "1.jpg"], captions=7)
    found = open_captions("custom", flickr / "own.csv")
    assert (found.split, found.annotations, found.full, len(found.captions[1])) == ("all", "own.csv", 2, 7)


def test_equal_images_are_counted_by_their_content(flickr):
    folder = flickr / "Images"
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(folder / f"{i}.jpg")
    assert open_captions("flickr8k", flickr, "all").equal_images() == 0
    for name in ("1.jpg", "2.jpg"):
        shutil.copy(folder / "0.jpg", folder / name)
    assert open_captions("flickr8k", flickr, "all").equal_images() == 3


@pytest.mark.parametrize("form", ["table", "karpathy"])
def test_a_split_of_custom_is_not_used(form, flickr):
    if form == "table":
        path = flickr / "own.csv"
        path.write_text("image,caption,split\n0.jpg,a cat,test\n1.jpg,a dog,train\n")
    else:
        path = flickr / "own.json"
        karpathy(path, [{"filename": "0.jpg", "split": "test"}, {"filename": "1.jpg", "split": "train"}])
    found = open_captions("custom", path)
    assert len(found.source) == 2
    assert any("split" in what for what in found.unused)


def test_data_may_be_the_parent_folder(flickr, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("Images", "captions.txt"):
        (tmp_path / "data" / "flickr8k").mkdir(exist_ok=True)
        (flickr / name).rename(tmp_path / "data" / "flickr8k" / name)
    found = open_captions("flickr8k", tmp_path / "data", "all")
    assert found.source.name(0) == str(tmp_path / "data" / "flickr8k" / "Images" / "0.jpg")


def test_a_limit_takes_the_images_that_training_holds_out(flickr):
    whole = open_captions("flickr8k", flickr, "all")
    some = open_captions("flickr8k", flickr, limit=2)  # with a limit no split file is asked for
    held = hold_out(whole.source, 2)[1]
    assert [some.source.name(i) for i in range(2)] == [held.name(i) for i in range(2)]
    assert (some.split, some.full) == ("all", 6)
    assert len(open_captions("flickr8k", flickr, "all", limit=99).source) == 6


def test_a_limit_takes_no_trained_image_in_the_place_of_a_missing_one(flickr):
    whole = open_captions("flickr8k", flickr, "all")
    kept, held = hold_out(whole.source, 3)
    Path(held.name(0)).unlink()
    with pytest.raises(UserError, match="1 of the 3 images"):
        open_captions("flickr8k", flickr, "all", limit=3)
    some = open_captions("flickr8k", flickr, "all", limit=3, partial=True)
    assert [some.source.name(i) for i in range(len(some.source))] == [held.name(1), held.name(2)]
    Path(kept.name(0)).unlink()  # it is not asked for
    assert len(open_captions("flickr8k", flickr, "all", limit=3, partial=True).source) == 2


def test_missing_files_are_reported(flickr, tmp_path):
    with pytest.raises(UserError, match=r"data .*Flickr_8k\.testImages\.txt or dataset_flickr8k\.json \(https"):
        open_captions("flickr8k", flickr)
    with pytest.raises(UserError, match=r"data .*absent: .* https"):
        open_captions("flickr30k", tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"data .*results_20130124\.token .* dataset_flickr30k\.json") as why:
        open_captions("flickr30k", tmp_path / "empty")
    assert KARPATHY in str(why.value)
    with pytest.raises(UserError, match=r"split test: .* all"):
        open_captions("flickr8k", flickr, "test")
    with pytest.raises(UserError, match="limit 0"):
        open_captions("flickr8k", flickr, limit=0)
    with pytest.raises(UserError, match="images nowhere"):
        open_captions("flickr8k", flickr, "all", images="nowhere")
    with pytest.raises(UserError, match=r"data .*none\.csv: "):
        open_captions("custom", tmp_path / "none.csv")
    with pytest.raises(UserError, match="split "):
        open_captions("custom", flickr / "captions.txt", "val")


def test_images_in_another_folder(tmp_path):
    table(tmp_path / "captions.txt", ["a.jpg"])
    with pytest.raises(UserError, match=r"data .*Images"):
        open_captions("flickr8k", tmp_path, "all")
    pictures(tmp_path / "else", ["a.jpg"])
    assert len(open_captions("flickr8k", tmp_path, "all", images=tmp_path / "else").source) == 1
    (tmp_path / "Images").mkdir()
    with pytest.raises(UserError, match="none of its 1 image"):
        open_captions("flickr8k", tmp_path, "all", partial=True)
    karpathy(tmp_path / "dataset_flickr8k.json", [{"filename": "a.jpg", "split": "test"}])
    with pytest.raises(UserError, match=r"data .*Images.a\.jpg"):
        open_captions("flickr8k", tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"images": [{"split": "test"}]}', '{"images": 3}'])
def test_a_damaged_file_with_splits(content, flickr):
    (flickr / "dataset_flickr8k.json").write_text(content)
    with pytest.raises(UserError, match="Karpathy"):
        open_captions("flickr8k", flickr)


def test_digests_depend_on_images_and_captions(flickr):
    first = open_captions("flickr8k", flickr, "all").digest()
    assert first == open_captions("flickr8k", flickr, "all").digest()
    assert first != open_captions("flickr8k", flickr, "all", limit=1).digest()
    table = flickr / "captions.txt"
    table.write_text(table.read_text().replace("0", "1"))
    with pytest.raises(UserError, match="split : "):
        open_captions("custom", table, "")


def test_a_file_without_a_test_split(flickr):
    karpathy(flickr / "dataset_flickr8k.json", [{"filename": "0.jpg", "split": "train"}])
    with pytest.raises(UserError, match="split test"):
        open_captions("flickr8k", flickr)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
def test_samples_of_the_real_data_sets():
    flickr = open_captions("flickr8k", SAMPLES / "flickr8k", limit=1000)
    assert (len(flickr.source), len(flickr.texts()[0])) == (1000, 5000)
    coco = open_captions("coco", SAMPLES / "coco", partial=True)
    assert (len(coco.source), coco.full, len(coco.texts()[0])) == (25, 5000, 125)


def test_a_name_that_no_file_can_have_is_a_missing_image(tmp_path):
    entry = {"filename": "a" * 300 + ".jpg", "split": "test", "sentences": [{"raw": "a cat"}]}
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": [entry]}))
    with pytest.raises(UserError):
        open_captions("flickr8k", tmp_path, "test")
