"""Processes that share a folder: claims, results, what a killed process leaves, the manifest."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pacl.errors import ArgumentError, UserError
from pacl.jobs.folder import JobFolder, read_results, strays, verify
from pacl.jobs.units import JobImage
from pacl.locks import lock

RUN = {"labels": [["a dog", ["a dog"]]], "settings": {"scales": (1.0, 2.0)}}


@dataclass(frozen=True)
class Numbers:
    """A unit whose images are numbers."""

    name: str
    count: int = 3
    base = None

    @property
    def source(self) -> str:
        return f"{self.name}, {self.count} numbers"

    def images(self, problems: list[str]) -> Iterator[JobImage]:
        yield from (JobImage(str(i)) for i in range(self.count))


def records(unit: Numbers) -> list[dict[str, Any]]:
    return [{"image": image.name, **({"error": "x"} if image.name == "1" else {})} for image in unit.images([])]


UNITS = [Numbers("a"), Numbers("b", 1), Numbers("c", 0)]


def test_a_finished_unit_is_not_done_again(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job", RUN)
    for unit in UNITS:
        assert folder.manifest(UNITS) is None
        with folder.claim(unit) as is_free:
            assert is_free
            folder.write(unit, records(unit), ["one problem"] * (unit.name == "b"))
    manifest = folder.manifest(UNITS)
    assert manifest is not None
    assert (manifest["images"], manifest["failed"], manifest["problems"]) == (4, 1, 1)
    again = JobFolder(tmp_path / "job", RUN)
    for unit in UNITS:
        with again.claim(unit) as is_free:
            assert not is_free
        assert list(read_results(again.results(unit.name))) == records(unit)
    assert verify(tmp_path / "job") == manifest
    assert json.loads((tmp_path / "job" / "manifest.json").read_text()) == manifest


def test_a_unit_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    folder, other = (JobFolder(tmp_path / "job", RUN) for _ in range(2))
    with folder.claim(UNITS[0]) as first, other.claim(UNITS[0]) as second, other.claim(UNITS[1]) as another:
        assert (first, second, another) == (True, False, True)
    with other.claim(UNITS[0]) as is_free:
        assert is_free


def claim_and_end(path: Path) -> None:
    import os

    folder = JobFolder(path, RUN)
    with folder.claim(UNITS[0]):

        def some() -> Iterator[dict[str, Any]]:
            yield {"image": "0"}
            os._exit(9)  # as if killed

        folder.write(UNITS[0], some(), [])


def test_what_a_killed_process_held_is_free_and_its_partial_results_are_replaced(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=claim_and_end, args=(tmp_path / "job",))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    folder = JobFolder(tmp_path / "job", RUN)
    with folder.claim(UNITS[0]) as is_free:
        assert is_free
        folder.write(UNITS[0], records(UNITS[0]), [])
    assert list(read_results(folder.results("a"))) == records(UNITS[0])
    assert [path.name for path in (tmp_path / "job" / "results").iterdir()] == ["a.jsonl.gz"]


def test_results_are_the_same_to_the_byte(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = JobFolder(tmp_path / name, RUN)
        with folder.claim(UNITS[0]):
            folder.write(UNITS[0], records(UNITS[0]), [])
        contents.append(folder.results("a").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({**RUN, "labels": []}, "labels"),
        ({"labels": RUN["labels"]}, "settings"),
        ({**RUN, "settings": {"scales": [1.0]}}, "settings.scales"),
    ],
)
def test_the_folder_of_another_run_is_refused(tmp_path: Path, other: dict[str, Any], named: str) -> None:
    JobFolder(tmp_path / "job", RUN)
    with pytest.raises(ArgumentError) as refused:
        JobFolder(tmp_path / "job", other)
    assert refused.value.argument == "out"
    assert named in refused.value.reason


def test_a_folder_whose_start_another_process_holds_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pacl.jobs.folder.RUN_WAIT", 0.1)
    JobFolder(tmp_path, RUN)
    with lock(tmp_path / "locks" / "run.lock", ""), pytest.raises(ArgumentError) as refused:
        JobFolder(tmp_path, RUN)
    assert refused.value.argument == "out"


def test_results_without_their_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.jsonl.gz").touch()
    with pytest.raises(ArgumentError):
        JobFolder(tmp_path, RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # nothing is left in a folder of other things


@pytest.mark.parametrize("change", ["results", "count", "sum", "problems", "type", "NUL", "missing", "no manifest"])
def test_verification_finds_what_does_not_add_up(tmp_path: Path, change: str) -> None:
    folder = JobFolder(tmp_path, RUN)
    for unit in UNITS:
        with folder.claim(unit):
            folder.write(unit, records(unit), [])
    manifest = folder.manifest(UNITS)
    assert manifest is not None
    if change == "results":
        folder.results("a").write_bytes(folder.results("b").read_bytes())
    elif change == "missing":
        folder.results("a").unlink()
    elif change == "no manifest":
        (tmp_path / "manifest.json").unlink()
    else:
        if change == "count":
            manifest["units"][0]["images"] += 1
        if change == "type":
            manifest["units"][0]["problems"] = 3
        if change == "NUL":
            manifest["units"][0]["name"] = "\0"
        manifest["problems" if change == "problems" else "images"] += 1
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError):
        verify(tmp_path)


def test_a_damaged_note_of_a_unit_is_one_line(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, RUN)
    with folder.claim(UNITS[0]):
        folder.write(UNITS[0], records(UNITS[0]), [])
    whole = json.loads((tmp_path / "done" / "a.json").read_text())
    wrong = [{"images": "3"}, {"failed": None}, {"problems": 3}, {"name": "b"}, {"sha256": 1.5}, {"bytes": True}]
    for content in ("", "[]", '{"name": "a"}', "[" * 50_000, *(json.dumps(whole | each) for each in wrong)):
        (tmp_path / "done" / "a.json").write_text(content)
        with pytest.raises(UserError):
            folder.done(UNITS[0])


@pytest.mark.parametrize("change", ["lost", "cut off"])
def test_a_unit_whose_results_are_lost_is_done_again(tmp_path: Path, change: str) -> None:
    folder, unit = JobFolder(tmp_path, RUN), UNITS[0]
    with folder.claim(unit):
        folder.write(unit, records(unit), [])
    path = folder.results(unit.name)
    content = path.read_bytes()
    path.unlink() if change == "lost" else path.write_bytes(content[:-1])
    assert folder.manifest([unit]) is None
    with folder.claim(unit) as is_free:
        assert is_free
        folder.write(unit, records(unit), [])
    assert path.read_bytes() == content
    assert folder.manifest([unit]) is not None


def test_changed_results_of_the_same_size_are_done_again(tmp_path: Path) -> None:
    folder, unit = JobFolder(tmp_path, RUN), UNITS[0]
    with folder.claim(unit):
        done = folder.write(unit, records(unit), [])
    path = folder.results(unit.name)
    content = path.read_bytes()
    path.write_bytes(content)  # newer, but the same
    assert folder.done(unit) == done
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert folder.done(unit) is None
    assert folder.manifest([unit]) is None
    with folder.claim(unit) as is_free:
        assert is_free


def test_the_manifest_of_fewer_units_goes_when_another_begins(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, RUN)
    with folder.claim(UNITS[0]):
        folder.write(UNITS[0], records(UNITS[0]), [])
    assert folder.manifest(UNITS[:1]) is not None
    with folder.claim(UNITS[0]) as is_free:
        assert not is_free
    assert verify(tmp_path)["images"] == 3
    with folder.claim(UNITS[1]) as is_free:
        assert is_free
        with pytest.raises(ArgumentError):
            verify(tmp_path)


def test_relative_paths_of_another_folder_are_refused(tmp_path: Path) -> None:
    JobFolder(tmp_path / "job", {**RUN, "relative_to": "/one"})
    JobFolder(tmp_path / "job", {**RUN, "relative_to": "/one"})
    for other in ("/other", None):  # None: all paths are absolute
        with pytest.raises(ArgumentError) as refused:
            JobFolder(tmp_path / "job", {**RUN, "relative_to": other})
        assert refused.value.argument == "out"
        assert "/one" in refused.value.reason


def test_relative_paths_do_not_join_absolute_ones(tmp_path: Path) -> None:
    JobFolder(tmp_path / "job", {**RUN, "relative_to": None})
    with pytest.raises(ArgumentError) as refused:
        JobFolder(tmp_path / "job", {**RUN, "relative_to": "/other"})
    assert refused.value.argument == "out"
    JobFolder(tmp_path / "job", {**RUN, "relative_to": None})


def test_results_of_units_that_are_none_any_more_are_named(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, RUN)
    for unit in UNITS:
        with folder.claim(unit):
            folder.write(unit, records(unit), [])
    manifest = folder.manifest(UNITS[1:])
    assert manifest is not None
    assert strays(tmp_path, manifest) == [folder.results(UNITS[0].name).name]
