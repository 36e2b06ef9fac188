from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write
from pacl.images import save_image
from pacl.printing import printable
from pacl.results.formats import FORMATS, RUN_FILES
from pacl.results.writer import LOCK, Writer
from pacl.segmentation.settings import SegmenterSettings

FILES = {
    "overlay": {"photo.overlay.png"},
    "mask": {"photo.mask.png"},
    "heat": {"photo.heat-1-a-dog.png", "photo.heat-2-grass-green.png", "photo.heat-3-a-cat.png"},
    "rle": {"photo.json"},
    "polygons": {"photo.json"},
    "coco": set(),  # of the run, not of an image
    "cvat": set(),
    "labelme": {"labelme/photo.json"},
    "yolo": {"yolo/images/photo.png", "yolo/labels/photo.txt"},
    "mmseg": {"mmseg/img_dir/photo.png", "mmseg/ann_dir/photo.png"},
    "npz": {"photo.npz"},
}


@pytest.fixture
def found() -> Any:
    """A segmentation of 6 x 8 pixels: background, a dog in a corner, grass below, no cat."""
    index = np.zeros((6, 8), np.uint8)
    index[1:3, 2:5] = 1
    index[4:] = 2
    maps = np.stack([np.full((6, 8), cosine, np.float32) for cosine in (0.25, 0.5, -0.125)])
    found = SimpleNamespace(
        labels=["a dog", "grass/.green", "a cat"],
        prompts=[("a dog", "a puppy"), ("grass",), ("a cat",)],
        index=index,
        shares=[6 / 48, 16 / 48, 0.0],
        scores=[0.75, 0.5, 0.0],
        background="none",
        settings=SegmenterSettings(),
        contents={},
        score_map=lambda label: maps[found.labels.index(label)],
    )
    return found


@pytest.fixture
def image() -> np.ndarray:
    return np.full((6, 8, 3), 128, np.uint8)


def write(out: Path, formats: tuple[str, ...], image: np.ndarray, found: Any) -> dict[str, Any]:
    return Writer(out, formats, {"name": "tiny"}).write("photo", Path("in/photo.jpg"), image, found)


def written(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FORMATS)
def test_only_what_is_asked_for_is_made(name: str, tmp_path: Path, image: np.ndarray, found: Any) -> None:
    record = write(tmp_path, (name,), image, found)
    assert written(tmp_path) == FILES[name] | {"photo.json"}
    paths = [Path(path) for paths in record["files"].values() for path in paths]
    assert {path.relative_to(tmp_path).as_posix() for path in paths} == FILES[name] | {"photo.json"}
    assert ("rle" in record["labels"][0], "polygons" in record["labels"][0]) == (name == "rle", name == "polygons")


def test_the_mask_holds_the_label_ids(tmp_path: Path, image: np.ndarray, found: Any) -> None:
    write(tmp_path, ("mask",), image, found)
    mask = Image.open(tmp_path / "photo.mask.png")
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.asarray(mask), found.index)


def test_the_record_describes_each_label(tmp_path: Path, image: np.ndarray, found: Any) -> None:
    record = write(tmp_path, ("rle", "polygons"), image, found)
    assert json.loads((tmp_path / "photo.json").read_text()) == record
    assert (record["image"], record["width"], record["height"]) == ("in/photo.jpg", 8, 6)
    assert record["model"] == {"name": "tiny"}
    assert record["background"] == {"rule": "none", "share": pytest.approx(26 / 48)}
    dog, grass, cat = record["labels"]
    assert (dog["label"], dog["id"], dog["prompts"]) == ("a dog", 1, ["a dog", "a puppy"])
    assert (dog["share"], dog["score"], dog["box"]) == (6 / 48, 0.75, [2, 1, 3, 2])
    assert (cat["share"], cat["box"], cat["polygons"]) == (0, None, [])
    for label in record["labels"]:
        np.testing.assert_array_equal(coco_mask.decode(label["rle"]), found.index == label["id"])
    (outline,) = grass["polygons"]
    assert set(zip(outline[::2], outline[1::2], strict=True)) == {(0, 4), (8, 4), (8, 6), (0, 6)}


def test_npz_is_read_by_numpy(tmp_path: Path, image: np.ndarray, found: Any) -> None:
    write(tmp_path, ("npz",), image, found)
    with np.load(tmp_path / "photo.npz") as arrays:
        assert set(arrays) == {"index", "labels", "similarity"}
        np.testing.assert_array_equal(arrays["index"], found.index)
        assert arrays["labels"].tolist() == found.labels
        assert arrays["similarity"].dtype == np.float16
        np.testing.assert_array_equal(arrays["similarity"][:, 0, 0], [0.25, 0.5, -0.125])
        assert arrays["similarity"].shape == (3, 6, 8)


def test_a_second_run_overwrites_with_the_same(tmp_path: Path, image: np.ndarray, found: Any) -> None:
    write(tmp_path, tuple(FORMATS), image, found)
    first = {name: (tmp_path / name).read_bytes() for name in written(tmp_path) if not name.endswith(".npz")}
    write(tmp_path, tuple(FORMATS), image, found)
    assert first == {name: (tmp_path / name).read_bytes() for name in first}


def test_labels_cannot_lead_outside(tmp_path: Path, image: np.ndarray, found: Any) -> None:
    found.labels = ["../../up", "/abs", "."]
    write(tmp_path / "out", ("heat",), image, found)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"photo.heat-1-up.png", "photo.heat-2-abs.png", "photo.heat-3-label.png", "photo.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_that_cannot_be_written_are_named(tmp_path: Path, image: np.ndarray, found: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"photo\.mask\.png"):
        write(tmp_path / "file", ("mask",), image, found)


def test_names_that_are_not_utf8_can_be_printed_and_written() -> None:
    assert printable(Path("bad\udcff.jpg")) == "bad\\xff.jpg"
    assert printable(Path("ü.jpg")) == "ü.jpg"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="all names are Unicode there")
def test_results_of_a_name_that_is_not_utf8_are_complete_joined_and_replaced(
    tmp_path: Path, image: np.ndarray, found: Any
) -> None:
    name, path, out = "bad\udcff", tmp_path / "bad\udcff.png", tmp_path / "out"
    save_image(path, image)

    def write(*formats: str, overwrite: bool = False) -> set[str]:
        writer = Writer(out, formats, {"name": "tiny"}, overwrite)
        writer.start(found.labels, {name: path.name})
        record = writer.write(name, path, image, found)
        assert json.loads((out / f"{name}.json").read_text()) == record
        writer.finish()
        return set(record["files"])

    everything = write(*FORMATS)
    images = {file.replace("photo", name) for files in FILES.values() for file in files}
    assert written(out) == images | {LOCK, *RUN_FILES}
    value = json.loads((out / f"labelme/{name}.json").read_text())
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(value["imageData"]))), image)
    assert write("mask") == everything
    found.prompts[0] = ("a puppy",)
    write("rle")
    assert written(out) == {LOCK, f"{name}.json"}
    write("mask", overwrite=True)
    assert written(out) == {LOCK, f"{name}.json", f"{name}.mask.png"}


def test_the_files_of_an_image_are_written_together(
    tmp_path: Path, image: np.ndarray, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask of the last run beside an overlay of this one would be a silent wrong result."""
    write(tmp_path, ("overlay", "mask", "rle"), image, found)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, index: np.ndarray) -> None:
        with atomic_write(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("pacl.results.formats.save_mask", full)
    found.index = 1 - np.minimum(found.index, 1)
    with pytest.raises(UserError, match="No space left"):
        write(tmp_path, ("overlay", "mask", "rle"), image, found)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_another_run_that_took_the_name_meanwhile_keeps_its_results(
    tmp_path: Path, image: np.ndarray, found: Any
) -> None:
    """Both looked for a free name before either wrote."""
    writers = [Writer(tmp_path / "out", ("mask", "coco"), {"name": "tiny"}) for _ in range(2)]
    paths = [tmp_path / folder / "photo.png" for folder in ("one", "two")]
    for number, path in enumerate(paths):
        save_image(path, image + np.uint8(number))
        writers[number].start(found.labels, {"photo": "photo.png"})
    writers[0].write("photo", paths[0], image, found)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path / "out")}
    with pytest.raises(UserError):
        writers[1].write("photo", paths[1], image + np.uint8(1), found)
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path / "out")}
    writers[1].write("other", paths[1], image + np.uint8(1), found)  # has the place of the first in the data set
    writers[1].write("third", paths[1].with_name("third.png"), image + np.uint8(2), found)
    writers[0].finish()
    for _ in range(2):
        with pytest.raises(ArgumentError):
            writers[1].finish()
        images = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
        assert [(each["file_name"], each["results"]) for each in images] == [
            ("photo.png", "photo"),
            ("third.png", "third"),
        ]
    writers[1].write("photo", paths[1], image + np.uint8(1), found, replace=True)
    assert json.loads((tmp_path / "out/photo.json").read_text())["source"] == "../two/photo.png"
