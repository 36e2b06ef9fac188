"""One data set for the run: COCO, CVAT, YOLO, mmsegmentation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pacl.results.records import read_record
from pacl.results.writer import Writer
from tests.commands import Run


def test_coco_is_one_file_for_the_run(run: Run) -> None:
    Path("photos/sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        shutil.copy("photo.png", f"photos/{name}")
    code, out, err = run("photos", "a dog", "grass", "--format", "coco,mask")
    assert (code, err) == (0, "")
    assert "out/annotations.json" in out
    data = COCO("out/annotations.json")
    assert [image["file_name"] for image in data.dataset["images"]] == ["a.png", "sub/b.png"]
    for each in data.dataset["annotations"]:
        mask = np.asarray(Image.open("out/a.mask.png")) == each["category_id"]
        assert each["area"] == mask.sum()
    assert {each["image_id"] for each in data.dataset["annotations"]} == {1, 2}


@pytest.mark.parametrize(("formats", "notes"), [("coco", 1), ("cvat,mask", 1), ("yolo,mmseg,labelme,mask", 0)])
def test_paths_from_several_folders_are_told_where_tools_look_for_them(run: Run, formats: str, notes: int) -> None:
    Path("photos/garden").mkdir(parents=True)
    for name in ("a.png", "garden/b.png"):
        shutil.copy("photo.png", f"photos/{name}")
    words = ("a dog", "grass", "--format", formats)
    assert run("photos", *words)[::2] == (0, "")
    assert run("photos/garden", *words)[::2] == (0, "")  # named as before
    shutil.copy("photo.png", "photos/garden/new.png")
    code, _, err = run("photos/garden", *words)
    assert (code, err.count("note: ")) == (0, notes)


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [(signal.SIGINT, 130, "pacl segment: interrupted"), (signal.SIGTERM, 143, None), (signal.SIGHUP, 129, None)],
)
def test_an_interrupted_run_keeps_what_is_finished_and_is_completed_by_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int, code: int, last: str | None
) -> None:
    from pacl.segmentation.segmenter import Segmenter

    predict, names = Segmenter.predict_batch, ("a.png", "b.png", "c.png")
    for name in names:
        shutil.copy("photo.png", name)
    left = [2]

    def interrupted(*words: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), number)
        return predict(*words)

    words = ("a dog", "grass", "--format", "coco,cvat,yolo,mmseg,mask", "--window_batch", "1")
    monkeypatch.setattr(Segmenter, "predict_batch", interrupted)
    before = signal.getsignal(number)
    found, _, err = run(*names, *words)
    assert found == code
    assert last in (None, err.splitlines()[-1])
    assert " of 3 images done" in err
    assert signal.getsignal(number) is before
    assert Path("out/a.mask.png").exists()
    kept = {image["file_name"] for image in COCO("out/annotations.json").dataset["images"]}
    assert kept == {path.name.replace(".mask", "") for path in Path("out").glob("*.mask.png")} >= {"a.png"}
    assert kept == {image.attrib["name"] for image in ElementTree.parse("out/annotations.xml").iter("image")}
    for folder, file in (("yolo/labels", "yolo/data.yaml"), ("mmseg/ann_dir", "mmseg/metainfo.json")):
        assert {f"{path.stem}.png" for path in Path("out", folder).iterdir()} == kept
        assert Path("out", file).exists()
    monkeypatch.setattr(Segmenter, "predict_batch", predict)
    assert run(*names[1:], *words)[0] == 0
    data = COCO("out/annotations.json")
    assert [image["file_name"] for image in data.dataset["images"]] == list(names)
    assert {each["image_id"] for each in data.dataset["annotations"]} == {1, 2, 3}
    assert [image.attrib["name"] for image in ElementTree.parse("out/annotations.xml").iter("image")] == list(names)
    assert {path.stem for path in Path("out/yolo/labels").iterdir()} == {"a", "b", "c"}


def test_a_stopped_run_waits_for_the_image_that_is_being_written_and_counts_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy("photo.png", name)
    write, is_stopped, is_writing = Writer.write, threading.Event(), threading.Event()

    def slow(self: Writer, name: str, *rest: Any) -> Any:
        if name == "b":
            is_writing.set()
            is_stopped.wait(10)
            time.sleep(0.3)
        return write(self, name, *rest)

    def interrupted(*_: Any) -> None:
        is_writing.wait(10)
        is_stopped.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "write", slow)
    monkeypatch.setattr("pacl.segment.swallowed", interrupted)
    code, _, err = run("a.png", "b.png", "c.png", "a dog", "grass", "--format", "coco", "--window_batch", "3")
    assert code == 130
    assert "2 of 3 images done" in err
    assert {path.name for path in Path("out").glob("?.json")} == {"a.json", "b.json"}
    images = json.loads(Path("out/annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.png", "b.png"]


def test_mmseg_has_a_background_where_a_single_prompt_has_one(run: Run) -> None:
    assert run("photo.png", "a dog", "--format", "mmseg,mask")[0] == 0
    assert json.loads(Path("out/mmseg/metainfo.json").read_text())["classes"] == ["background", "a dog"]
    np.testing.assert_array_equal(Image.open("out/mmseg/ann_dir/photo.png"), Image.open("out/photo.mask.png"))
    code, _, err = run("photo.png", "a dog", "--format", "mmseg", "--background", "none", "--out", "other")
    assert (code, err) == (0, "")
    assert json.loads(Path("other/mmseg/metainfo.json").read_text())["classes"] == ["a dog"]


def test_photos_in_folders_named_like_those_of_data_sets_keep_their_results(run: Run) -> None:
    names = {"x.png", "labelme/x.png", "yolo/labels/x.png", "mmseg/ann_dir/x.png"}
    for name in names:
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("photo.png", f"photos/{name}")
    words = ("photos", "a dog", "grass", "--format", "mask,rle,coco,labelme,yolo,mmseg")
    for _ in range(2):
        assert run(*words)[0] == 0
        records = [record for path in Path("out").rglob("*.json") if (record := read_record(path))]
        assert {record["image"] for record in records} == {f"photos/{name}" for name in names}
        for folder, suffix in (("labelme", ".json"), ("yolo/labels", ".txt"), ("mmseg/ann_dir", ".png")):
            files = {path.name for path in Path("out", folder).rglob("*.*")}
            assert files == {f"x{suffix}"}
    images = json.loads(Path("out/annotations.json").read_text())["images"]
    assert {image["file_name"] for image in images} == names


def test_images_in_exported_data_sets_are_not_segmented(run: Run) -> None:
    assert run("photo.png", "a dog", "grass", "--format", "yolo,mmseg")[0] == 0
    code, _, err = run(".", "a dog", "grass", "--format", "mask", "--out", "second")
    assert (code, len(err.splitlines())) == (0, 1)
    assert sorted(path.name for path in Path("second").iterdir()) == ["photo.json", "photo.mask.png"]
