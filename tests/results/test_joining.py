"""Files of one image belong together: what several runs write of one result stays, of another it goes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pacl.results.formats import FORMATS
from pacl.results.joining import is_same_result
from tests.results.drawn import IMAGE, files, write_one

EVERY_FILE = {"overlay", "mask", "heat", "npz", "labelme", "yolo", "mmseg", "json"}


def test_files_of_an_earlier_result_with_other_labels_are_deleted(tmp_path: Path) -> None:
    write_one(tmp_path, ("overlay", "heat", "npz", "rle", "labelme"), "cat", "blanket")
    (tmp_path / "a.notes.png").write_bytes(b"the user's")
    write_one(tmp_path, ("mask", "rle"), "cat", "wall")
    assert files(tmp_path) == {"a.mask.png", "a.json", "a.notes.png"}


def test_another_format_of_the_same_result_joins_it(tmp_path: Path) -> None:
    write_one(tmp_path, ("overlay", "rle"), "cat", "blanket")
    write_one(tmp_path, ("npz", "rle"), "cat", "blanket")
    assert files(tmp_path) == {"a.overlay.png", "a.npz", "a.json"}


@pytest.mark.parametrize("change", ["labels", "overwrite", "content"])
def test_files_that_runs_in_several_formats_wrote_are_deleted_together(tmp_path: Path, change: str) -> None:
    for key in FORMATS:
        write_one(tmp_path, (key,), "cat", "blanket")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["files"].keys() == EVERY_FILE
    assert all(Path(file).is_file() for files in record["files"].values() for file in files)
    assert all({"rle", "polygons"} < label.keys() for label in record["labels"])
    labels = ("cat", "wall") if change == "labels" else ("cat", "blanket")
    image = IMAGE + np.uint8(change == "content")
    write_one(tmp_path, ("overlay",), *labels, overwrite=change == "overwrite", image=image)
    assert files(tmp_path) == {"a.overlay.png", "a.json"}
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["files"].keys() == {"overlay", "json"}
    assert not any({"rle", "polygons"} & label.keys() for label in record["labels"])


def test_a_record_names_the_files_of_earlier_formats_from_where_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    write_one(Path("out"), ("npz", "heat", "labelme"), "cat", "blanket", name="in/a")
    monkeypatch.chdir("deep")
    Path("../out/in/a.heat-1-cat.png").unlink()
    write_one(Path("../out"), ("mask",), "cat", "blanket", name="in/a")
    found = json.loads(Path("../out/in/a.json").read_text())["files"]
    assert found == {
        "npz": ["../out/in/a.npz"],
        "heat": ["../out/in/a.heat-2-blanket.png"],
        "labelme": ["../out/labelme/in/a.json"],
        "mask": ["../out/in/a.mask.png"],
        "json": ["../out/in/a.json"],
    }


def test_files_of_an_earlier_image_of_the_same_path_are_deleted(tmp_path: Path) -> None:
    write_one(tmp_path, ("overlay", "npz", "labelme", "coco", "mmseg"), "cat", "blanket")
    image = IMAGE.copy()
    image[0, 0, 0] = 1
    write_one(tmp_path, ("mask",), "cat", "blanket", image=image)
    assert files(tmp_path) == {"a.mask.png", "a.json"}
    write_one(tmp_path, ("npz",), "cat", "blanket", image=image)
    assert files(tmp_path) == {"a.mask.png", "a.npz", "a.json"}


@pytest.mark.parametrize("key", ["content", "height", "model"])
def test_records_of_earlier_versions_that_lack_something_are_of_other_results(tmp_path: Path, key: str) -> None:
    write_one(tmp_path, ("npz",), "cat", "blanket")
    record = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**record, key: {}}))
    write_one(tmp_path, ("mask",), "cat", "blanket")
    assert files(tmp_path) == {"a.mask.png", "a.json"}


def record(**changes: object) -> dict[str, object]:
    model = {"name": "m", "clip": "x", "weights": "1"}
    about = {"labels": [{"label": "a", "prompts": ["a"]}], "model": model, "content": "2", "width": 40, "height": 30}
    return {**about, "settings": {"scales": [1.0]}, "background": {"rule": "none"}, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "m", "clip": "x", "weights": "2"}},
        {"model": {"name": "m", "clip": "x"}},
        {"settings": {"scales": [1.0], "template_texts": ["a {}"]}},
        {"settings": {"scales": [1.0], "sam_weights": "1"}},
        {"background": {"rule": "peak:0.6"}},
        {"content": "3"},
    ],
    ids=str,
)
def test_what_made_a_result_counts_not_what_it_is_called(changes: dict[str, object]) -> None:
    assert is_same_result(record(), record(settings={"scales": (1.0,)}))
    assert is_same_result(record(**changes), record(**changes))
    assert not is_same_result(record(), record(**changes))
    assert not is_same_result(record(**changes), record())
