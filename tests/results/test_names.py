"""Names of results: an image is known by its file, whatever folder earlier runs named it from."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pacl.errors import ArgumentError
from pacl.results import names
from pacl.results.names import Names
from pacl.results.same_image import source_from


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def photo(path: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (len(path), 0, 0)).save(path)
    return Path(path)


def record(out: Path, name: str, image: Path, place: str | None = None) -> None:
    """Write the record of a result as far as names go; its place is made like the name, unless it is given."""
    path = out / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    place = str(Path(name).with_name(image.name)) if place is None else place
    rest: dict[str, Any] = {"model": {}, "settings": {}, "labels": [], "files": {}}
    source = {"name": name, "place": place, "source": source_from(out, image), "image": str(image)}
    path.write_text(json.dumps(source | rest))


@pytest.mark.parametrize("name", ["garden/cow", "garden/cow_png", "x/garden/cow_png-13", "cow_png-2"])
def test_an_image_keeps_the_name_that_a_run_on_another_folder_gave_it(name: str, out: Path, tmp_path: Path) -> None:
    image = photo(f"{tmp_path}/photos/x/garden/cow.png")
    record(out, name, image)
    assert Names(out).add(image, Path("cow.png")) == (name, str(Path(name).with_name("cow.png")))


def test_a_link_to_an_image_has_the_name_of_the_image(out: Path, tmp_path: Path) -> None:
    image = photo(f"{tmp_path}/photos/garden/cow.png")
    record(out, "garden/cow", image)
    link = tmp_path / "links/cow.png"
    link.parent.mkdir()
    link.symlink_to(image)
    assert Names(out).add(link, Path("cow.png")) == ("garden/cow", "garden/cow.png")


@pytest.mark.parametrize("name", ["cow-1", "cow-2", "Cow", "cow_jpg", "cow_png-1", "v2/cow", "garden/cow-2"])
def test_a_name_that_a_caller_gave_is_left_to_the_caller(name: str, out: Path, tmp_path: Path) -> None:
    image = photo(f"{tmp_path}/photos/garden/cow.png")
    record(out, name, image, "cow.png")
    assert Names(out).add(image, Path("cow.png")) == ("cow", "cow.png")


@pytest.mark.parametrize(("first", "then"), [("annotations-image", "x/annotations"), ("x/annotations", "annotations")])
def test_names_that_files_of_a_run_have_are_known_too(first: str, then: str, out: Path, tmp_path: Path) -> None:
    image = photo(f"{tmp_path}/photos/x/annotations.png")
    record(out, first, image, "x/annotations.png")
    assert Names(out).add(image, Path(f"{then}.png"))[0] == first


def test_it_is_refused_too_where_another_image_takes_its_name(out: Path, tmp_path: Path) -> None:
    inner, twin = photo(f"{tmp_path}/photos/garden/cow.png"), photo(f"{tmp_path}/photos/COW.png")
    record(out, "cow", inner)
    run = Names(out)
    run.add(twin, Path("COW.png"))
    with pytest.raises(ArgumentError):
        run.add(inner, Path("garden/cow.png"))


def test_an_image_that_was_named_from_a_folder_further_in_is_refused(out: Path, tmp_path: Path) -> None:
    image = photo(f"{tmp_path}/photos/garden/cow.png")
    record(out, "cow", image)
    with pytest.raises(ArgumentError) as error:
        Names(out).add(image, Path("garden/cow.png"))
    assert (error.value.argument, error.value.value) == ("out", out)
    assert str(image) in str(error.value)
    assert Names(None).add(image, Path("garden/cow.png"))[0] == "garden/cow"  # all earlier results are replaced
    assert Names(out).add(image, Path("cow.png"))[0] == "cow"


def test_other_images_and_names_that_a_caller_gave_do_not_count(out: Path, tmp_path: Path) -> None:
    image, other = photo(f"{tmp_path}/photos/garden/cow.png"), photo(f"{tmp_path}/photos/cow.png")
    record(out, "x/cow", other)  # another image
    record(out, "v2/cow", image, "cow.png")  # a name that was given
    record(out, "v2", image)
    record(out, "mine/cow", image)
    file = out / "mine/cow.json"
    file.write_text(file.read_text().replace('"mine/cow"', '"cow"'))  # of a folder of results of its own, out/mine
    assert Names(out).add(image, Path("cow.png")) == ("cow", "cow.png")


def test_two_images_of_a_run_never_share_an_earlier_name(out: Path, tmp_path: Path) -> None:
    first, second = photo(f"{tmp_path}/photos/garden/cow.png"), photo(f"{tmp_path}/other/garden/cow.png")
    record(out, "garden/cow", first)
    for images in ((first, second), (second, first)):
        found = Names(out)
        got = {image: found.add(image, Path("cow.png"), is_shared=True)[0] for image in images}
        assert got == {first: "garden/cow", second: "cow"}


def test_the_folder_is_listed_once_and_no_record_is_read_in_vain(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [photo(f"{tmp_path}/photos/{number}/cow.png") for number in range(9)]
    for number, image in enumerate(images):
        record(out, f"{number}/cow", image)
        record(out, f"{number}/sheep", photo(f"{tmp_path}/photos/{number}/sheep.png"))
    calls: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        call = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path: calls.update([name]) or call(path))

    counted(names, "read_record")
    counted(os, "walk")
    found = Names(out)
    for number in range(20, 40):
        found.add(photo(f"{tmp_path}/photos/{number}/cow.png"), Path(f"{number}/cow.png"))
    direct = 2 * 20  # the names that they get, of an image or of a video
    assert calls == {"walk": 1, "read_record": direct + 9}
    calls.clear()
    for number in range(9):
        record(out, f"dog_png-{number + 2}" if number else "dog", photo(f"{tmp_path}/photos/{number}/dog.png"))
    Names(out).add(photo(f"{tmp_path}/photos/20/dog.png"), Path("dog.png"))
    assert calls["read_record"] <= 2 * 2 + 8  # each once
