"""The units of a job: what they are called, and their images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pacl.errors import ArgumentError, UserError
from pacl.jobs.units import JobImage, find_units, folder_units
from tests.jobs.tars import png, write_shards


def test_every_shard_is_a_unit(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shards(tmp_path / "data", 3, 2)
    units = find_units(str(tmp_path / "data"))
    assert len({unit.name for unit in units}) == len(units) == 3
    problems: list[str] = []
    names = [image.name for unit in units for image in unit.images(problems)]
    assert names == [f"{shard:03d}.tar/{i:03d}" for shard in range(3) for i in range(2)]
    assert problems == []
    image = next(units[1].images(problems)).decode()
    assert isinstance(image, np.ndarray)
    assert image.shape == (48, 40, 3)


def test_names_do_not_depend_on_other_shards(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    folder = write_shards(tmp_path / "data", 3, 1)
    one = find_units(str(folder / "001.tar"))[0]
    assert one.name in {unit.name for unit in find_units(str(folder / "{000..002}.tar"))}
    other = write_shards(tmp_path / "other", 2, 1)
    assert one.name not in {unit.name for unit in find_units(str(other))}  # another 001.tar


def test_a_shard_that_is_twice_in_a_pattern_is_one_unit(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    shard = write_shards(tmp_path / "data", 1, 1) / "000.tar"
    assert len(find_units(f"{shard}::{shard}")) == 1


def test_shards_of_the_same_name_are_refused(tmp_path: Path) -> None:
    """Their images would have the same names."""
    pytest.importorskip("webdataset")
    for folder in ("train", "val"):
        write_shards(tmp_path / folder, 1, 1)
    with pytest.raises(UserError, match=r"train/000\.tar, .*val/000\.tar"):
        find_units(str(tmp_path))
    assert len(find_units(str(tmp_path / "val"))) == 1


def test_images_of_a_shard_that_are_not_used_are_a_problem(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    shard = write_shards(tmp_path / "data", 1, 2) / "000.tar"
    with tarfile.open(shard, "a") as tar:
        for name in ("000.jpg", "2024.05.01.jpg", "x.heic", "001.cls", "README"):
            tar.addfile(tarfile.TarInfo(name))
    problems: list[str] = []
    assert [image.name for image in find_units(str(shard))[0].images(problems)] == ["000.tar/000", "000.tar/001"]
    (line,) = problems
    assert all(name in line for name in (str(shard), "000.jpg", "2024.05.01.jpg", "x.heic"))
    assert not any(name in line for name in ("001.cls", "README"))  # no image is missing there


def test_captions_that_are_not_used_are_no_problem(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    shard = write_shards(tmp_path / "data", 1, 2) / "000.tar"
    with tarfile.open(shard, "a") as tar:
        for name in ("000.txt", "001.json", "001.txt"):  # apart from their images
            tar.addfile(tarfile.TarInfo(name))
        info = tarfile.TarInfo("001.caption")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"\xe9"))  # not UTF-8
    problems: list[str] = []
    assert len(list(find_units(str(shard))[0].images(problems))) == 2
    assert problems == []


def test_a_truncated_shard_is_a_problem_and_keeps_what_comes_before(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    shard = write_shards(tmp_path / "data", 1, 3) / "000.tar"
    shard.write_bytes(shard.read_bytes()[: 512 * 14])
    problems: list[str] = []
    found = list(find_units(str(shard))[0].images(problems))
    assert 0 < len(found) <= 3
    assert len(problems) == 1


def test_a_list_is_cut_into_units_of_lines(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    listed = tmp_path / "list.txt"
    listed.write_text("0.png\r\n1.png\n\nsub/ü 3.png\n4.png")
    units = find_units(str(listed), lines=2, folder=tmp_path)
    assert len({unit.name for unit in units}) == 3
    names = [[image.name for image in unit.images([])] for unit in units]
    expected = [["0.png", "1.png"], ["sub/ü 3.png"], ["4.png"]]
    assert names == [[str(tmp_path / name) for name in part] for part in expected]
    assert isinstance(next(units[0].images([])).decode(), np.ndarray)
    assert isinstance(JobImage(str(tmp_path / "1.png")).decode(), UserError)


def test_a_folder_of_images_is_cut_into_units(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b/1.PNG", "b/2.png", "b/3.png")]
    units = folder_units(tmp_path, files[:3], lines=2)
    names = [[image.name for image in unit.images([])] for unit in units]
    assert names == [[str(tmp_path / name) for name in part] for part in (["a.png", "b/1.PNG"], ["b/2.png"])]
    assert len({unit.name for unit in units}) == 2
    grown = folder_units(tmp_path, files, lines=2)
    assert [one.name == other.name for one, other in zip(units, grown, strict=True)] == [True, False]


def test_a_changed_part_of_a_list_is_another_unit(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    listed = tmp_path / "list.txt"
    listed.write_text("a.png\nb.png\n")
    before = [unit.name for unit in find_units(str(listed), lines=1, folder=tmp_path)]
    listed.write_text("a.png\nc.png\n")
    after = [unit.name for unit in find_units(str(listed), lines=1, folder=tmp_path)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_list_that_changes_while_it_is_used_is_one_line(tmp_path: Path, change: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("a.png\nb.png\n")
    (tmp_path / "a.png").touch()
    first, second = find_units(str(listed), lines=1, folder=tmp_path)
    if change == "gone":
        listed.unlink()
    else:
        listed.write_text("a.png\nc.png\n")
        assert len(list(first.images([]))) == 1
    with pytest.raises(UserError, match=r"list\.txt"):
        list(second.images([]))


def test_the_same_list_in_another_folder_is_another_unit(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\n")
    names = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        (folder / "a.png").touch()
        names += [unit.name for unit in find_units(str(tmp_path / "list.txt"), folder=folder)]
    assert len(set(names)) == 2


def test_a_unit_is_known_by_the_files_that_its_relative_paths_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> tuple[str, Path | None]:
        (unit,) = find_units(str(tmp_path / "list.txt"))
        return unit.name, unit.base

    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "list.txt").write_text("a.png\n")
    units = []
    for folder in ("one", "other", "link"):
        monkeypatch.chdir(tmp_path / folder)
        units.append(found())
    assert units[0] == units[2] != units[1]
    assert [base for _, base in units] == [(tmp_path / folder).resolve() for folder in ("one", "other", "one")]
    images = [find_units("../list.txt", folder=folder)[0] for folder in (Path("../one"), tmp_path / "one")]
    assert {(unit.name, unit.base) for unit in images} == {(units[0][0], None)}  # their names are absolute
    assert next(images[0].images([])).path == tmp_path / "one" / "a.png"  # whatever folder it is read from later
    (tmp_path / "list.txt").write_text(f"{tmp_path}/one/a.png\n")
    absolute = found()
    monkeypatch.chdir(tmp_path)
    assert found() == absolute
    assert absolute[1] is None


def test_a_folder_of_images_is_known_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder / "photos").mkdir(parents=True)
        (tmp_path / folder / "photos" / "a.png").touch()
    units = []
    for start, source in (("one", "photos"), ("other", "photos"), ("other", "../one/photos")):
        monkeypatch.chdir(tmp_path / start)
        (unit,) = folder_units(Path(source), [Path(source, "a.png")])
        units.append((unit.name, unit.base))
        base = unit.base
        assert base is not None
        assert all((base / image.path).samefile(image.path) for image in unit.images([]))
    assert units[0][0] == units[2][0] != units[1][0]
    assert [base for _, base in units] == [(tmp_path / start).resolve() for start in ("one", "other", "other")]
    folder = tmp_path / "one" / "photos"
    (unit,) = folder_units(folder, [folder / "a.png"])
    assert (unit.name, unit.base) == (units[0][0], None)


def test_images_under_other_names_are_other_units(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "list.txt").write_text("a.png\n")
    names = []
    for folder in (tmp_path / "photos", tmp_path / "link"):
        units = [*find_units(str(tmp_path / "list.txt"), folder=folder), *folder_units(folder, [folder / "a.png"])]
        assert [image.name for unit in units for image in unit.images([])] == [str(folder / "a.png")] * 2
        names += [unit.name for unit in units]
    assert len(set(names)) == 4


def test_a_shard_is_known_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("webdataset")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        write_shards(tmp_path / folder / "data", 1, 1)
    names = []
    for folder in ("one", "other"):
        monkeypatch.chdir(tmp_path / folder)
        names += [find_units("data/000.tar")[0].name, find_units("../one/data/000.tar")[0].name]
        assert find_units("data/000.tar")[0].base == Path.cwd()
        assert find_units(str(Path.cwd() / "data/000.tar"))[0].base is None
    assert names[0] == names[1] == names[3] != names[2]


def test_a_list_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    for folder in (tmp_path, tmp_path / "missing", None):
        with pytest.raises(ArgumentError) as refused:
            find_units(str(tmp_path / "list.txt"), folder=folder)
        assert refused.value.argument == "images"
    (tmp_path / "b.png").touch()  # one of them is enough
    assert len(find_units(str(tmp_path / "list.txt"), folder=tmp_path)) == 1


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "a.png"):
        with pytest.raises(UserError):
            find_units(str(source))
    shards = write_shards(tmp_path / "data", 1, 1)
    with pytest.raises(ArgumentError) as refused:
        find_units(str(shards), folder=tmp_path)
    assert refused.value.argument == "images"
    assert len(find_units(str(tmp_path))) == 1  # shards in a subfolder


def test_an_empty_or_missing_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(UserError):
            find_units(str(tmp_path / name))


def test_a_byte_order_mark_is_no_part_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\nb.png\n", encoding="utf-8-sig")
    (tmp_path / "a.png").touch()
    units = find_units(str(tmp_path / "list.txt"), 1, tmp_path)
    assert [image.path.name for unit in units for image in unit.images([])] == ["a.png", "b.png"]


@pytest.mark.parametrize("content", ["a.png\nb.png\n".encode("utf-16"), b"a.png\nb\0.png\n"], ids=["UTF-16", "binary"])
def test_a_list_that_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError):
        find_units(str(tmp_path / "list.txt"), 1)
