"""A folder of results: files of one image belong together, and a run may replace what earlier ones left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pacl.errors import ArgumentError
from pacl.images import save_image
from pacl.results.earlier import (
    check_free,
    content_of,
    is_image_of,
    is_same_result,
    of_other_labels,
    of_other_model,
    own_results,
    read_record,
    source_from,
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
    writer.write(name, Path(f"{name}.png"), image, found, replace=True)
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


@pytest.mark.parametrize("key", ["content", "height", "model"])
def test_records_of_earlier_versions_that_lack_something_are_of_other_results(tmp_path: Path, key: str) -> None:
    write(tmp_path, ("npz",), "cat", "blanket")
    record = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**record, key: {}}))
    write(tmp_path, ("mask",), "cat", "blanket")
    assert files(tmp_path) == {"a.mask.png", "a.json"}


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


@pytest.mark.parametrize(("labels", "found"), [("ab", False), ("ac", True)])
def test_results_of_other_labels_are_found(tmp_path: Path, labels: str, found: bool) -> None:
    write(tmp_path, ("rle",), "a", "b")
    other = of_other_labels(tmp_path, labels)
    assert (other is not None and other[0].name == "a.json") == found
    assert not of_other_labels(tmp_path, labels, {tmp_path / "a.json"})


@pytest.mark.parametrize(
    ("labels", "model", "found"),
    [
        ("ab", {"name": "tiny"}, False),
        ("ab", {"name": "x"}, True),
        ("ab", {"name": "tiny", "weights": "1"}, True),  # the record states none
        ("ac", {"name": "x"}, False),
    ],
)
def test_results_of_another_model_are_found(tmp_path: Path, labels: str, model: dict[str, str], found: bool) -> None:
    write(tmp_path, ("rle",), "a", "b")
    other = of_other_model(tmp_path, labels, model)
    assert (other is not None and other[0].name == "a.json") == found
    assert not of_other_model(tmp_path, labels, model, {tmp_path / "a.json"})


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


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two images of the same name and other pixels, in folders of their own."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / folder / "a.png" for folder in ("one", "two")]
    for number, path in enumerate(paths):
        save_image(path, IMAGE + np.uint8(number))
    return paths


def test_an_image_is_known_by_its_path_from_any_folder(
    twins: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    source = {"source": source_from(Path("link/out"), Path("one/a.png"))}
    assert source == {"source": "../../one/a.png"}
    monkeypatch.chdir(tmp_path / "two")
    out = tmp_path / "deep" / "out"
    assert is_image_of(source, out, Path("../one/a.png"))
    assert not is_image_of(source, out, Path("a.png"))
    assert not is_image_of({"pixels": "1"}, out, Path("a.png"))
    monkeypatch.chdir("/")
    (tmp_path / "one").rename(tmp_path / "three")  # then its content decides, which is not stated
    assert not is_image_of(source, out, tmp_path / "three/a.png")
    assert is_image_of({**source, "content": content_of(IMAGE)}, out, tmp_path / "three/a.png")
    assert not is_image_of({**source, "content": content_of(IMAGE)}, out, twins[1])


def test_results_that_moved_with_their_images_are_known(twins: list[Path], tmp_path: Path) -> None:
    stated = {"source": source_from(tmp_path / "out", twins[0])}
    for each in (*twins, tmp_path / "out"):
        each.parent.mkdir(exist_ok=True)
    (tmp_path / "moved").mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    assert is_image_of(stated, tmp_path / "moved/out", tmp_path / "moved/one/a.png")
    assert not is_image_of(stated, tmp_path / "moved/out", tmp_path / "moved/two/a.png")


@pytest.mark.parametrize(("number", "is_same"), [(0, True), (1, False)])
def test_older_records_are_compared_by_content(twins: list[Path], tmp_path: Path, number: int, is_same: bool) -> None:
    older = {"image": "one/a.png", "content": content_of(IMAGE)}
    assert is_image_of(older, tmp_path / "out", twins[number]) == is_same
    assert not is_image_of({"image": "one/a.png"}, tmp_path / "out", twins[number])


def test_images_of_one_colour_and_other_proportions_differ() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    assert content_of(wide) == content_of(wide.copy())
    assert content_of(wide) != content_of(wide.reshape(8, 4, 3))
