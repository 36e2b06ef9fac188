"""Files of a whole run, in every format that has one: completed by later runs, and never mixed or overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.errors import ArgumentError
from pacl.results.earlier import read_record
from pacl.results.writer import FORMATS, is_in_dataset
from tests.results.drawn import write_run

RUNS = {name: each.dataset for name, each in FORMATS.items() if each.dataset}


def content(out: Path) -> dict[str, bytes]:
    """Of all files but the images' records, which name the folder."""
    files = [path for path in out.rglob("*") if path.is_file() and read_record(path) is None]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_over_the_remaining_images_completes_the_file(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "whole", name, "a.jpg", "b.jpg", "sub/c.jpg")
    write_run(tmp_path / "parts", name, "a.jpg", "b.jpg", "sub/c.jpg", done=2)
    write_run(tmp_path / "parts", name, "b.jpg", "sub/c.jpg")
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_other_labels_replaces_its_images_and_never_mixes(name: str, tmp_path: Path) -> None:
    other = ("x", "y", "z")
    write_run(tmp_path / "out", name, "a.jpg", "b.jpg")
    write_run(tmp_path / "out", name, "a.jpg", "b.jpg", labels=other, done=1)  # interrupted: b is of the old labels
    write_run(tmp_path / "new", name, "a.jpg", labels=other)
    labels = {path: value for path, value in content(tmp_path / "out").items() if not path.endswith(".jpg")}
    assert labels == {path: value for path, value in content(tmp_path / "new").items() if not path.endswith(".jpg")}
    before = content(tmp_path / "out")
    with pytest.raises(ArgumentError) as error:
        write_run(tmp_path / "out", name, "b.jpg")
    assert (error.value.argument, error.value.value) == ("out", tmp_path / "out")
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(
    "text", ["", "[]", "<a/>", '{"images": [], "categories": [], "annotations": []}', '{"classes": []}', "names: [a]"]
)
def test_a_file_of_somebody_else_is_not_overwritten(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / RUNS[name].name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ArgumentError):
        write_run(tmp_path / "out", name, "a.jpg")
    assert content(tmp_path / "out") == {RUNS[name].name: text.encode()}


@pytest.mark.parametrize("name", RUNS)
def test_without_an_image_there_is_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_run(tmp_path / "out", name, "a.jpg", done=0)
    assert not content(tmp_path / "out")


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_labels_without_a_file_of_classes_are_kept(name: str, tmp_path: Path) -> None:
    """Somebody's own data set, where the numbers may mean anything."""
    write_run(tmp_path / "out", name, "a.jpg").unlink()
    before = content(tmp_path / "out")
    with pytest.raises(ArgumentError):
        write_run(tmp_path / "out", name, "a.jpg")
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_images_are_copied_as_jpeg_or_png_and_are_known_as_results(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "out", name, "a.jpg", "b.JPEG", "c.png", "sub/d.webp")
    folder = tmp_path / "out" / RUNS[name].images  # type: ignore[attr-defined]
    copies = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert set(copies) == {"a.jpg", "b.jpg", "c.png", "sub/d.png"}
    for copy, image in (("a.jpg", "a.jpg"), ("b.jpg", "b.JPEG"), ("c.png", "c.png")):
        assert copies[copy].read_bytes() == (tmp_path / "photos" / image).read_bytes()
    assert all(map(is_in_dataset, copies.values()))
    assert not is_in_dataset(tmp_path / "photos" / "a.jpg")
    (tmp_path / "out" / RUNS[name].name).write_text("names: [a]")  # a data set of somebody else
    assert not any(map(is_in_dataset, copies.values()))


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_labels_are_those_of_one_image(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "out", name, "a.jpg")
    write_run(tmp_path / "out", name, "a.png")
    folder = tmp_path / "out" / RUNS[name].images  # type: ignore[attr-defined]
    assert [path.name for path in folder.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("coco", '"file_name": "b.jpg"', r'"file_name": "\ud83d"'),
        ("coco", '"file_name": "b.jpg"', '"file_name": ' + "9" * 5000),
        ("cvat", '<image id="1"', "<x>" * 3000 + "</x>" * 3000 + '<image id="1"'),
        ("yolo", "names:", "names: " + "[" * 3000),
        ("mmseg", '"classes":', '"classes": ' + "[" * 3000),
    ],
)
def test_a_file_that_could_not_be_written_again_is_not_overwritten(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    path = write_run(tmp_path / "out", name, "a.jpg", "b.jpg")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    before = content(tmp_path / "out")
    with pytest.raises(ArgumentError) as error:
        write_run(tmp_path / "out", name, "a.jpg", "b.jpg")
    assert error.value.argument == "out"
    assert content(tmp_path / "out") == before
