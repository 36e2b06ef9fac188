"""A folder of results: files of one image belong together, and a run may replace what earlier ones left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pacl.errors import ArgumentError
from pacl.results.earlier import (
    check_free,
    is_same_result,
    of_other_labels,
    of_other_sources,
    own_results,
    read_record,
)
from pacl.results.writer import FORMATS, LOCK, Writer
from tests.results.drawn import result

IMAGE = np.zeros((20, 30, 3), np.uint8)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def write(
    out: Path,
    formats: tuple[str, ...],
    *labels: str,
    name: str = "a",
    overwrite: bool = False,
    image: np.ndarray = IMAGE,
) -> None:
    writer = Writer(out, formats, {"name": "tiny"}, overwrite)
    writer.start(labels, {name: f"{name}.png"})
    index = np.zeros((20, 30), np.uint8)
    index[5:15, 5:15] = 1
    found = result(index, labels)
    found.score_map = lambda label: np.zeros((20, 30), np.float32)
    writer.write(name, Path(f"{name}.png"), image, found)
    writer.finish()


def test_files_of_an_earlier_result_with_other_labels_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, ("overlay", "heat", "npz", "rle", "labelme"), "cat", "blanket")
    (tmp_path / "a.notes.png").write_bytes(b"the user's")
    write(tmp_path, ("mask", "rle"), "cat", "wall")
    assert files(tmp_path) == {"a.mask.png", "a.json", "a.notes.png"}


def test_another_format_of_the_same_result_joins_it(tmp_path: Path) -> None:
    write(tmp_path, ("overlay", "rle"), "cat", "blanket")
    write(tmp_path, ("npz", "rle"), "cat", "blanket")
    assert files(tmp_path) == {"a.overlay.png", "a.npz", "a.json"}


EVERY_FILE = {"overlay", "mask", "heat", "npz", "labelme", "yolo", "mmseg", "json"}


@pytest.mark.parametrize("change", ["labels", "overwrite", "content"])
def test_files_that_runs_in_several_formats_wrote_are_deleted_together(tmp_path: Path, change: str) -> None:
    for key in FORMATS:
        write(tmp_path, (key,), "cat", "blanket")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["files"].keys() == EVERY_FILE
    assert all(Path(file).is_file() for files in record["files"].values() for file in files)
    assert all({"rle", "polygons"} < label.keys() for label in record["labels"])
    labels = ("cat", "wall") if change == "labels" else ("cat", "blanket")
    image = IMAGE + np.uint8(change == "content")
    write(tmp_path, ("overlay",), *labels, overwrite=change == "overwrite", image=image)
    assert files(tmp_path) == {"a.overlay.png", "a.json"}
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["files"].keys() == {"overlay", "json"}
    assert not any({"rle", "polygons"} & label.keys() for label in record["labels"])


def test_a_record_names_the_files_of_earlier_formats_from_where_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    write(Path("out"), ("npz", "heat", "labelme"), "cat", "blanket", name="in/a")
    monkeypatch.chdir("deep")
    Path("../out/in/a.heat-1-cat.png").unlink()
    write(Path("../out"), ("mask",), "cat", "blanket", name="in/a")
    found = json.loads(Path("../out/in/a.json").read_text())["files"]
    assert found == {
        "npz": ["../out/in/a.npz"],
        "heat": ["../out/in/a.heat-2-blanket.png"],
        "labelme": ["../out/labelme/in/a.json"],
        "mask": ["../out/in/a.mask.png"],
        "json": ["../out/in/a.json"],
    }


def test_files_of_an_earlier_image_of_the_same_path_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, ("overlay", "npz", "labelme", "coco", "mmseg"), "cat", "blanket")
    image = IMAGE.copy()
    image[0, 0, 0] = 1
    write(tmp_path, ("mask",), "cat", "blanket", image=image)
    assert files(tmp_path) == {"a.mask.png", "a.json"}
    write(tmp_path, ("npz",), "cat", "blanket", image=image)
    assert files(tmp_path) == {"a.mask.png", "a.npz", "a.json"}


@pytest.mark.parametrize(("key", "stays"), [("content", True), ("height", False)])
def test_records_of_earlier_versions_do_not_state_the_content(tmp_path: Path, key: str, stays: bool) -> None:
    write(tmp_path, ("npz",), "cat", "blanket")
    record = json.loads((tmp_path / "a.json").read_text())
    del record[key]
    (tmp_path / "a.json").write_text(json.dumps(record))
    write(tmp_path, ("mask",), "cat", "blanket")
    assert (tmp_path / "a.npz").exists() == stays


def test_overwrite_leaves_this_run_alone_and_what_others_wrote(tmp_path: Path) -> None:
    write(tmp_path, tuple(FORMATS), "cat", "blanket", name="deep/old")
    (tmp_path / "mine.json").write_text("{}")
    write(tmp_path, ("mask", "rle"), "dog", "grass", overwrite=True)
    assert files(tmp_path) == {"a.mask.png", "a.json", "mine.json"}


def test_overwrite_keeps_everything_until_an_image_is_written(tmp_path: Path) -> None:
    write(tmp_path, ("mask", "rle", "coco"), "cat", "blanket", name="old")
    before = files(tmp_path)
    Writer(tmp_path, ("mask", "coco"), {}, overwrite=True).start(["dog"], {"a": "a.png"})
    assert files(tmp_path) == before


@pytest.mark.parametrize(("labels", "model", "found"), [("ab", "tiny", False), ("ac", "tiny", True), ("ab", "x", True)])
def test_results_of_other_labels_or_another_model_are_found(
    tmp_path: Path, labels: str, model: str, found: bool
) -> None:
    write(tmp_path, ("rle",), "a", "b")
    other = of_other_labels(tmp_path, labels, model)
    assert (other is not None and other[0].name == "a.json") == found
    assert not of_other_labels(tmp_path, labels, model, {tmp_path / "a.json"})


def test_a_folder_of_results_below_another_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "mine", tuple(FORMATS), "cat", "wall", name="a")
    write(tmp_path / "mine", ("mask",), "cat", "wall", name="deep/b")
    (tmp_path / "mine" / "b.json").touch()  # of an image whose record is lost
    (tmp_path / "mine" / "a.mask.png").rename(tmp_path / "mine" / "b.mask.png")
    before = files(tmp_path)
    write(tmp_path, ("mask",), "cat", "sky", name="nested/c")  # belongs to the folder above
    other = of_other_labels(tmp_path, ["dog"])
    assert other is not None
    assert other[0].name == "c.json"
    write(tmp_path, ("mask",), "dog", overwrite=True)
    assert files(tmp_path) == before | {"a.mask.png", "a.json"}
    write(tmp_path / "mine", ("mask",), "dog", overwrite=True)  # which was named itself
    assert files(tmp_path / "mine") == {"a.mask.png", "a.json", "b.json"}


def test_results_of_a_folder_below_are_not_replaced(tmp_path: Path) -> None:
    write(tmp_path / "mine", ("mask",), "cat", "wall", name="a")
    write(tmp_path, ("mask",), "cat", "wall", name="other/a")
    check_free(tmp_path, ["other/a", "mine/b", "a"])
    with pytest.raises(ArgumentError) as error:
        check_free(tmp_path, ["other/a", "mine/a"])
    assert error.value.argument == "out"


def test_overwrite_tells_what_it_removed(tmp_path: Path) -> None:
    write(tmp_path, ("mask", "rle", "overlay"), "cat", "wall", name="a")
    write(tmp_path, ("mask",), "cat", "wall", name="b")
    (tmp_path / "b.json").unlink()
    assert set(own_results(tmp_path)) == {tmp_path / "a.json", tmp_path / "b.mask.png"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image": 1}', "\x00"])
def test_other_files_are_no_records(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_record(tmp_path / "a.json") is None


def test_results_of_another_file_with_the_same_name_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "a.png").write_bytes(b"an image")
    write(Path("out"), ("rle",), "cat", "wall")
    record = Path("out/a.json")
    record.write_text(record.read_text().replace('"a.png"', '"one/a.png"'))
    assert of_other_sources(Path("out"), {"a": Path("one/a.png"), "b": Path("two/a.png")}) is None
    assert of_other_sources(Path("out"), {"a": Path("two/a.png")}) == (record, "one/a.png")
    Path("out/clip.jsonl").write_text(json.dumps(json.loads(record.read_text())) + "\n{}\n")
    assert of_other_sources(Path("out"), {"clip": Path("two/a.png")}) == (Path("out/clip.jsonl"), "one/a.png")
    Path("one/a.png").unlink()
    assert of_other_sources(Path("out"), {"a": Path("two/a.png")}) == (record, "one/a.png")
    assert of_other_sources(Path("out"), {"a": Path("one/a.png")}) is None
    Path("out/a.json").write_text("no record")
    assert of_other_sources(Path("out"), {"a": Path("two/a.png")}) is None


def record(model: str, background: str, rule: str) -> dict[str, object]:
    settings = {"size": 224, "background": background}
    about = {"labels": [{"label": "a", "prompts": ["a"]}], "model": {"name": model, "clip": "x"}}
    return {**about, "settings": settings, "background": {"rule": rule}, "width": 40, "height": 30}


def test_older_records_with_auto_go_with_what_it_stood_for() -> None:
    new = record("photos", "none", "none")
    assert is_same_result(record("auto", "auto", "none"), new)
    assert not is_same_result(record("other", "none", "none"), new)
    assert not is_same_result(record("auto", "auto", "peak:0.6"), new)
    assert not is_same_result({**record("auto", "auto", "none"), "model": {"name": "auto", "clip": "y"}}, new)
    prompt = record("photos", "prompt:sky", "prompt:sky")
    assert is_same_result(prompt, prompt)
    assert not is_same_result(prompt, record("photos", "prompt:wall", "prompt:wall"))


def test_older_records_of_the_model_auto_are_of_no_other_model(tmp_path: Path) -> None:
    write(tmp_path, ("rle",), "a", "b")
    path = tmp_path / "a.json"
    path.write_text(path.read_text().replace('"tiny"', '"auto"'))
    assert of_other_labels(tmp_path, "ab", "photos") is None
