"""Files of a whole run, in every format that has one: completed by later runs, and never mixed or overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pacl.errors import ArgumentError, UserError
from pacl.results.formats import FORMATS, is_in_dataset
from pacl.results.records import read_record
from pacl.results.run_file import Run
from pacl.results.writer import LOCK, Writer
from tests.results.drawn import result, write_run

RUNS = {name: each.dataset for name, each in FORMATS.items() if each.dataset}


def content(out: Path) -> dict[str, bytes]:
    """Of all files but the images' records, which name the folder."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != LOCK and read_record(path) is None]
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
    assert content(tmp_path / "out") == content(tmp_path / "new")  # also without a copy of b, which has no labels
    before = content(tmp_path / "out")
    with pytest.raises(ArgumentError) as error:
        write_run(tmp_path / "out", name, "b.jpg")
    assert (error.value.argument, error.value.value) == ("out", tmp_path / "out")
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(("first", "then"), [("none", "entropy"), ("entropy", "none")])
def test_where_the_background_rule_alone_differs_the_error_names_it(first: str, then: str, tmp_path: Path) -> None:
    write_run(tmp_path / "out", "mmseg", "a.jpg", background=first)
    before = content(tmp_path / "out")
    with pytest.raises(ArgumentError, match="background rule") as error:
        write_run(tmp_path / "out", "mmseg", "b.jpg", background=then)
    assert "other labels" not in str(error.value)
    with pytest.raises(ArgumentError, match="other labels"):
        write_run(tmp_path / "out", "mmseg", "b.jpg", background=then, labels=("x", "y"))
    assert content(tmp_path / "out") == before


def run_of(out: Path, formats: str, model: str, *names: str, done: int = 99, **rest: Any) -> Writer:
    """A run of a model of some weights over images, the first ``done`` of them, which has not finished yet."""
    writer = Writer(out, formats.split(","), {"name": "tiny"}, **rest)
    writer.start(["a dog", "grass", "a cat"], {name: f"{name}.png" for name in names})
    writer.set_model({"weights": model})  # known when it is loaded
    for number, name in enumerate(names[:done]):
        writer.write(name, out / f"{name}.png", np.full((20, 30, 3), number, np.uint8), result())
    return writer


def images_in(name: str, out: Path) -> set[str]:
    return {Path(key).stem for key in RUNS[name](Run(out, None, {})).entries}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_by_another_model_replaces_its_images_and_never_mixes(name: str, tmp_path: Path) -> None:
    run_of(tmp_path, name, "1", "a", "b").finish()
    before = content(tmp_path)
    for argument in ("out", "folder"):
        with pytest.raises(ArgumentError) as error:
            run_of(tmp_path, name, "2", "a", "c", argument=argument)
        assert error.value.argument == argument
        assert content(tmp_path) == before
    run_of(tmp_path, name, "1", "c").finish()
    assert images_in(name, tmp_path) == {"a", "b", "c"}
    run_of(tmp_path, name, "2", "a", "b", "c", done=2).finish()  # interrupted: c is of the old model
    assert images_in(name, tmp_path) == {"a", "b"}
    run_of(tmp_path, name, "2", "d").finish()
    with pytest.raises(ArgumentError):
        run_of(tmp_path, name, "1", "c")
    run_of(tmp_path, name, "1", "c", overwrite=True).finish()
    assert images_in(name, tmp_path) == {"c"}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("label", "model"), [("a dog", "other"), ("a cat", "tiny")])
def test_another_image_at_the_place_of_one_does_not_replace_it(
    name: str, label: str, model: str, twins: list[Path], tmp_path: Path
) -> None:
    out, (first, second) = tmp_path / "out", twins
    write(out, name, "a", first)
    before = content(out)
    writer = Writer(out, (name,), {"name": model})
    with pytest.raises(ArgumentError):
        writer.start([label], {"b": second.name})
    assert content(out) == before


@pytest.mark.parametrize("name", RUNS)
def test_results_of_another_model_that_are_in_no_data_set_do_not_count(name: str, tmp_path: Path) -> None:
    run_of(tmp_path, "mask", "1", *(f"a{number}" for number in range(12))).finish()
    run_of(tmp_path, name, "2", "b").finish()
    run_of(tmp_path, f"{name},mask", "2", "c").finish()
    run_of(tmp_path, "mask", "1", "d").finish()
    assert images_in(name, tmp_path) == {"b", "c"}
    with pytest.raises(ArgumentError):
        run_of(tmp_path, name, "1", "d")
    run_of(tmp_path, "mask", "1", "c").finish()  # leaves the data set
    assert images_in(name, tmp_path) == {"b"}


@pytest.mark.parametrize("name", ["coco", "cvat"])
def test_images_that_another_run_added_by_another_model_meanwhile_are_not_merged(name: str, tmp_path: Path) -> None:
    writer = run_of(tmp_path, name, "1", "a")
    run_of(tmp_path, name, "2", "b").finish()
    before = content(tmp_path)
    with pytest.raises(ArgumentError):
        writer.finish()
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["coco", "cvat"])
def test_a_run_by_another_model_that_was_killed_does_not_hide_what_the_file_holds(name: str, tmp_path: Path) -> None:
    run_of(tmp_path, name, "1", "a", "b", "c").finish()
    run_of(tmp_path, name, "2", "a", "b", "c", done=2)
    with pytest.raises(ArgumentError):
        run_of(tmp_path, name, "2", "d")


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


@pytest.mark.parametrize("name", RUNS)
def test_overwrite_deletes_data_sets_that_could_not_hold_this_run(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_run(out, name, "a.jpg")
    writer = Writer(out, ("mask",), {"name": "tiny"}, overwrite=True)
    labels = ["background", *map(str, range(300))]
    writer.start(labels, {"images/b": "images/b.jpg"}, background=True)
    image = np.zeros((20, 30, 3), np.uint8)
    writer.write("images/b", tmp_path / "b.jpg", image, result(labels=labels, background="peak:0.6"))
    writer.finish()
    assert {path.name for path in out.rglob("*") if path.is_file()} == {"b.mask.png", "b.json", LOCK}


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
def test_copies_go_with_labels_by_another_model_but_no_image_that_was_not_written_here(
    name: str, tmp_path: Path
) -> None:
    out, names = tmp_path / "out", ("a", "b", "c", "d", "e")
    folder = out / RUNS[name].images  # type: ignore[attr-defined]
    for each in names:
        Image.new("RGB", (30, 20)).save(tmp_path / f"{each}.png")

    def write(model: str, done: int) -> None:
        writer = Writer(out, (name,), {"name": model})
        writer.start(["a dog", "grass", "a cat"], {each: f"{each}.png" for each in names})
        for each in names[:done]:
            writer.write(each, tmp_path / f"{each}.png", np.zeros((20, 30, 3), np.uint8), result())
        writer.finish()

    write("one", 5)
    (folder / "c.jpg").write_bytes(b"somebody else's")
    (tmp_path / "d.png").unlink()  # its copy is all that is left of it
    (tmp_path / "e.png").unlink()
    (tmp_path / "e.png").symlink_to(folder / "e.png")
    write("two", 1)
    assert {path.name for path in folder.iterdir()} == {"a.png", "c.jpg", "d.png", "e.png"}
    assert [path.stem for path in (out / RUNS[name].labels).iterdir()] == ["a"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_labels_are_those_of_one_image(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "out", name, "a.jpg")
    write_run(tmp_path / "out", name, "a.png")
    folder = tmp_path / "out" / RUNS[name].images  # type: ignore[attr-defined]
    assert [path.name for path in folder.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_the_copy_of_an_earlier_image_stays_until_that_of_the_next_is_complete(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "out", name, "a.jpg")
    before = content(tmp_path / "out")

    def full(*_: Any, **__: Any) -> None:
        raise UserError("no space left")

    monkeypatch.setattr("pacl.results.writer.save_json", full)  # the record, after the copy
    with pytest.raises(UserError, match="no space"):
        write_run(tmp_path / "out", name, "a.png")
    assert content(tmp_path / "out") == before


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


def write(
    out: Path, formats: str, name: str, path: Path, prompt: str = "a dog", image: np.ndarray | None = None
) -> None:
    """Write the results of an image file; its label is always the same."""
    found = result(labels=("a dog",))
    found.prompts = [(prompt,)]
    writer = Writer(out, formats.split(","), {"name": "tiny"})
    writer.start(found.labels, {name: path.name})
    writer.write(name, path, np.asarray(Image.open(path)) if image is None else image, found)
    writer.finish()


@pytest.fixture
def twins(tmp_path: Path) -> list[Path]:
    """Two images of the same name."""
    paths = [tmp_path / folder / "x.png" for folder in ("one", "two")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        Image.new("RGB", (30, 20), (90, 120, number)).save(path)
    return paths


@pytest.mark.parametrize("name", RUNS)
def test_an_image_never_takes_the_entry_of_another_of_its_name(name: str, twins: list[Path], tmp_path: Path) -> None:
    out, (first, second) = tmp_path / "out", twins
    write(out, "mask", "a", first)  # its record has the place that the second image takes in the file
    write(out, name, "b", second)
    for _ in range(2):
        write(out, name, "a", first)
        assert set(RUNS[name](Run(out, None, {})).entries) in ({"a", "b"}, {"x.png", first.as_posix()})
    before = content(out)
    write(out, name, "b", second)
    assert content(out) == before
    write(out, "mask", "a", first, prompt="puppy")  # takes its own entry away only
    assert set(RUNS[name](Run(out, None, {})).entries) in ({"b"}, {"x.png"})


@pytest.mark.parametrize("name", RUNS)
def test_the_same_image_under_two_names_has_one_place(name: str, twins: list[Path], tmp_path: Path) -> None:
    for each in ("a", "b"):
        write(tmp_path / "out", name, each, twins[0])
    assert set(RUNS[name](Run(tmp_path / "out", None, {})).entries) in ({"a", "b"}, {"x.png"})


@pytest.mark.parametrize("name", RUNS)
def test_an_image_that_is_segmented_anew_leaves_the_data_sets_of_earlier_runs(
    name: str, twins: list[Path], tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    for folder in (out, other):
        write(folder, name, "b", twins[1])
    write(out, name, "a", twins[0])
    before = content(out)
    write(out, "rle", "a", twins[0])  # of the same prompts: it goes with what is there
    assert content(out) == before
    write(out, "rle", "a", twins[0], prompt="puppy")
    assert content(out) == content(other)
    write(out, "rle", "b", twins[1], prompt="puppy")
    assert not content(out)


@pytest.mark.parametrize("name", RUNS)
def test_runs_that_write_to_a_folder_at_the_same_time_keep_each_others_images(
    name: str, twins: list[Path], tmp_path: Path
) -> None:
    out, pixels = tmp_path / "out", np.asarray(Image.open(twins[0]))
    for each in ("gone", "old"):
        write(out, name, each, tmp_path / f"{each}.png", image=pixels)
    entries = set(RUNS[name](Run(out, None, {})).entries)
    writers = [Writer(out, (each,), {"name": "tiny"}) for each in (name, name, "mask")]
    for writer, each in zip(writers, ("a", "b", "gone"), strict=True):
        found = result(labels=("a dog",))
        found.prompts = [("puppy" if each == "gone" else "a dog",)]
        writer.start(found.labels, {each: f"{each}.png"})
        writer.write(each, tmp_path / f"{each}.png", pixels, found)
    for writer in writers:
        writer.finish()
    assert {Path(key).stem for key in entries} == {"gone", "old"}
    assert {Path(key).stem for key in RUNS[name](Run(out, None, {})).entries} == {"old", "a", "b"}


@pytest.mark.parametrize("name", ["coco", "cvat"])
@pytest.mark.parametrize(("prompt", "formats"), [("puppy", "both"), ("puppy", "mask"), ("a dog", "mask")])
def test_an_image_that_another_run_segments_meanwhile_has_the_entry_of_its_record(
    name: str, prompt: str, formats: str, twins: list[Path], tmp_path: Path
) -> None:
    out, pixels, found = tmp_path / "out", np.asarray(Image.open(twins[0])), result(labels=("a dog",))
    found.prompts = [("a dog",)]
    writer = Writer(out, (name,), {"name": "tiny"})
    writer.start(found.labels, {"a": "a.png", "b": "b.png"})
    for each in ("a", "b"):
        writer.write(each, tmp_path / f"{each}.png", pixels, found)
    write(out, name if formats == "both" else "mask", "a", tmp_path / "a.png", prompt, pixels)
    if prompt == "a dog" or formats == "both":  # the same result, or the other run's own entry
        writer.finish()
    else:
        with pytest.raises(ArgumentError):
            writer.finish()
    entries = {Path(key).stem for key in RUNS[name](Run(out, None, {})).entries}
    assert entries == ({"b"} if (prompt, formats) == ("puppy", "mask") else {"a", "b"})
    record = read_record(out / "a.json")
    assert record is not None
    assert record["labels"][0]["prompts"] == [prompt]


@pytest.mark.parametrize("name", ["coco", "cvat"])
def test_a_file_that_another_run_wrote_with_other_labels_is_not_merged(
    name: str, twins: list[Path], tmp_path: Path
) -> None:
    out, found = tmp_path / "out", result(labels=("a cat",))
    writer = Writer(out, (name,), {"name": "tiny"})
    writer.start(found.labels, {"a": "x.png"})
    write(out, name, "b", twins[1])
    before = RUNS[name](Run(out, None, {})).path.read_bytes()
    writer.write("a", twins[0], np.asarray(Image.open(twins[0])), found)
    with pytest.raises(ArgumentError) as error:
        writer.finish()
    assert error.value.argument == "out"
    assert RUNS[name](Run(out, None, {})).path.read_bytes() == before


@pytest.mark.parametrize("name", ["coco", "cvat"])
def test_a_file_is_read_again_only_if_it_changed(
    name: str, twins: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = 0, RUNS[name].read

    def counted(self: Any, content: bytes) -> Any:
        nonlocal reads
        reads += 1
        return read(self, content)

    monkeypatch.setattr(RUNS[name], "read", counted)
    for _ in range(3):
        write(tmp_path / "out", name, "a", twins[0])
    assert reads == 2


def test_a_data_set_of_somebody_else_stays_as_it_is(twins: list[Path], tmp_path: Path) -> None:
    write(tmp_path / "out", "mask", "a", twins[0])
    for each in RUNS.values():
        path = tmp_path / "out" / each.name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    write(tmp_path / "out", "mask", "a", twins[0], prompt="puppy")
    assert all((tmp_path / "out" / each.name).read_text() == "{}" for each in RUNS.values())


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_overwrite_leaves_what_others_put_in_a_data_set(name: str, tmp_path: Path) -> None:
    out, kind = tmp_path / "out", RUNS[name]
    write_run(out, name, "a.jpg", "b.jpg")
    images, labels = out / kind.images, out / kind.labels  # type: ignore[attr-defined]
    others = {images / "mine.jpg", labels / f"mine{kind.label_suffix}", labels / "readme.md"}  # type: ignore[attr-defined]
    for path in others:
        path.write_bytes(b"mine")
    found, pixels = result(), np.zeros((20, 30, 3), np.uint8)
    for formats in ((name,), ("mask",)):
        writer = Writer(out, formats, {"name": "tiny"}, overwrite=True)
        writer.start(found.labels, {"c": "c.jpg"})
        writer.write("c", tmp_path / "c.jpg", pixels, found)
        writer.finish()
        own = {path for folder in (images, labels) for path in folder.iterdir()} - others
        assert {path.stem for path in own} == ({"c"} if name in formats else set())
        assert all(path.read_bytes() == b"mine" for path in others)
        assert (out / kind.name).exists()  # the others' labels are of its classes
    before = content(out)
    with pytest.raises(ArgumentError):
        Writer(out, (name,), {"name": "tiny"}, overwrite=True).start(["x"], {"c": "c.jpg"})
    assert content(out) == before


@pytest.mark.parametrize("name", ["yolo", "mmseg"])
def test_an_image_that_is_segmented_anew_leaves_others_labels_of_its_name(
    name: str, twins: list[Path], tmp_path: Path
) -> None:
    write(tmp_path / "out", name, "b", twins[1])
    write(tmp_path / "out", "mask", "a", twins[0])
    path = tmp_path / "out" / RUNS[name].labels / f"a{RUNS[name].label_suffix}"  # type: ignore[attr-defined]
    path.write_bytes(b"mine")
    write(tmp_path / "out", "mask", "a", twins[0], prompt="puppy")
    assert path.read_bytes() == b"mine"
