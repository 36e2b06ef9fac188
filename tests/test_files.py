from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from eval.segmentation.label_maps import check_context_names
from pacl.class_files import label_lines
from pacl.data.caption_text import captions_of_files
from pacl.data.folders import _read_names
from pacl.data.mask_palette import read_palette
from pacl.data.readers import read_list
from pacl.errors import ArgumentError, UserError
from pacl.files import (
    MOST_BYTES,
    atomic_write,
    begins_with,
    cache_folder,
    check_folder,
    check_output_file,
    is_out_of_space,
    make_folder,
    parse_json,
    parse_yaml,
    save_json,
    short_name,
    split_lines,
    write_together,
)
from pacl.index.place import shared_folder
from pacl.models.distillation import read_texts
from pacl.prompts import get_templates
from pacl.webapp.session import Limits, parse_words
from tests.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert make_folder(folder) == folder


@pytest.mark.parametrize(("place", "argument"), [("file", "out"), ("file/below", "cache")])
def test_a_folder_that_cannot_be_made_is_named_with_its_argument(place: str, argument: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError) as error:
        make_folder(tmp_path / place, argument)
    assert (error.value.argument, error.value.value) == (argument, tmp_path / place)


@pytest.mark.parametrize("place", ["file", "file/below", "nowhere", "nowhere/below", "below/file"])
def test_a_folder_that_could_not_be_made_is_known_before(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing" / "x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").symlink_to("file")
    before = sorted(tmp_path.rglob("*"))
    for attempt in (check_folder, make_folder):
        with pytest.raises(ArgumentError) as error:
            attempt(tmp_path / place)
        assert (error.value.argument, error.value.value) == ("out", tmp_path / place)
        assert ("link that leads nowhere" in error.value.reason) == (place not in ("file", "file/below"))
    check_folder(tmp_path / "new" / "folder")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, temporary.suffix) == (path.parent, ".txt")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail_halfway() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_processes_of_the_same_number_write_apart(tmp_path: Path) -> None:
    """On machines that share a folder, and in containers, where many a process has the number 1."""
    name = "import os; os.getpid = lambda: 1; from pacl.files import atomic_write as w; print(w('x').__enter__())"
    names = [subprocess.check_output([sys.executable, "-c", name], cwd=tmp_path, env=ENVIRONMENT) for _ in range(2)]
    assert names[0] != names[1]


def test_operating_system_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left on device"), atomic_write(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    with pytest.raises(UserError, match="nnn"), atomic_write(tmp_path / ("n" * 300)) as temporary:
        temporary.touch()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/x"), atomic_write(tmp_path / "file" / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    save_json(tmp_path / "x.json", {"label": "犬", "box": [1, 2]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"label": "犬", "box": [1, 2]}
    assert "犬" in text
    with pytest.raises(ValueError, match="JSON"):
        save_json(tmp_path / "y.json", float("nan"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_files_of_a_group_appear_together_or_not_at_all(tmp_path: Path) -> None:
    def write(*names: str, fail: bool) -> None:
        with write_together():
            for name in names:
                with atomic_write(tmp_path / name) as temporary:
                    temporary.write_text("new")
                assert not (tmp_path / name).exists() or (tmp_path / name).read_text() == "old"
            if fail:
                raise ZeroDivisionError

    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError):
        write("a", "b", fail=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]
    write("a", "b", fail=False)
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [("a", "new"), ("b", "new")]
    with atomic_write(tmp_path / "c") as temporary:  # and the next stands alone
        temporary.touch()
    assert (tmp_path / "c").exists()


def test_a_full_disk_is_told_from_other_errors(tmp_path: Path) -> None:
    for number, full in ((28, True), (30, True), (13, False)):
        with pytest.raises(UserError) as error, atomic_write(tmp_path / "x"):
            raise OSError(number, "no")
        assert is_out_of_space(error.value) is full
    assert not is_out_of_space(UserError("other"))


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_a_folder_is_no_file_to_write(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="folder"), atomic_write(path):
        pass


def test_json_that_cannot_be_taken_as_it_is() -> None:
    with pytest.raises(ValueError, match="deep"):
        parse_json("[" * 100_000)
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="twice"):
        parse_json('{"a": 1, "a": 2}', unique_keys=True)


def test_json_in_rows_has_a_line_for_each_key_and_each_object_of_a_list(tmp_path: Path) -> None:
    objects = [{"id": i, "polygons": [[0.5, 1.0] * 50], "é": None} for i in range(3)]
    value = {"name": 'a "b"', "empty": [], "settings": {"scales": (1.0, 2.0)}, "numbers": [1, 2], "objects": objects}
    save_json(tmp_path / "a.json", value, rows=True)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(value))
    assert len(text.splitlines()) == 2 + len(value) + len(objects) + 1
    save_json(tmp_path / "a.json", {}, rows=True)
    assert json.loads((tmp_path / "a.json").read_text()) == {}
    with pytest.raises(ValueError, match="JSON"):
        save_json(tmp_path / "a.json", {"a": [{"b": float("nan")}]}, rows=True)


@pytest.mark.parametrize("letter", ["a", "é", "象", "\udce9"])
def test_long_names_are_cut_and_stay_apart(letter: str, tmp_path: Path) -> None:
    names = [f"folder/{letter * (240 // len(os.fsencode(letter)))}{end}" for end in "12"]
    short = [short_name(name) for name in names]
    assert len(set(short)) == 2
    assert all(name.startswith("folder/") and len(os.fsencode(name)) <= 7 + MOST_BYTES for name in short)
    assert short_name(short[0]) == short[0]
    assert short_name("folder/dog.v1") == "folder/dog.v1"


@pytest.mark.parametrize("text", [r'{"a": "\ud83d"}', "[" * 3000, "9" * 5000])
def test_json_that_cannot_be_kept_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|digits|surrogate"):
        parse_json(text)
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"


def test_files_of_a_block_within_another_appear_with_those_of_the_outer_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), write_together():  # noqa: PT012
        with write_together(), atomic_write(tmp_path / "inner") as aside:
            aside.write_text("x")
        assert not (tmp_path / "inner").exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_by_the_command_that_wrote_it(tmp_path: Path) -> None:
    own, other, link, out = (tmp_path / name for name in ("own", "other", "link", "below/out"))
    own.write_text("# Results\n")
    other.write_text("# Notes\n")
    link.symlink_to(tmp_path / "nowhere")
    is_own = begins_with(rb"# Results\s")
    (tmp_path / "empty").touch()
    for path in (own, out, tmp_path / "empty"):
        check_output_file(path, is_own, inputs=[other])
    assert out.parent.is_dir()
    check_output_file(other, is_own, overwrite=True)
    refused: list[tuple[Path, list[Path]]] = [(other, []), (own, [link, own]), (tmp_path, []), (link, [])]
    for path, inputs in [*refused, (Path(os.devnull), [])]:
        with pytest.raises(ArgumentError) as error:
            check_output_file(path, is_own, "csv", inputs=inputs)
        assert (error.value.argument, error.value.value) == ("csv", path)
    with pytest.raises(ArgumentError):  # its own name is no reason to lose an input
        check_output_file(own, is_own, inputs=[own], overwrite=True)


def test_a_file_of_another_ending_is_refused_before_its_folder_is_made(tmp_path: Path) -> None:
    check_output_file(tmp_path / "a.PNG", begins_with(b""), endings=[".jpg", ".png"])
    with pytest.raises(ArgumentError, match=r"\.jpg, \.png"):
        check_output_file(tmp_path / "below" / "a.txt", begins_with(b""), endings=[".jpg", ".png"])
    assert list(tmp_path.iterdir()) == []


SIGNS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Where `str.splitlines` splits besides."""


def test_lines_end_where_editors_end_them() -> None:
    assert split_lines("a\nb\r\nc\rd\n\n") == ["a", "b", "c", "d", ""]
    assert split_lines("") == []
    assert split_lines(f"a{SIGNS}b\nc") == [f"a{SIGNS}b", "c"]


@pytest.mark.parametrize("sign", SIGNS)
def test_no_file_of_a_user_is_split_within_a_line(tmp_path: Path, sign: str) -> None:
    """In captions, words, classes, lists of images and palettes."""
    path, line = tmp_path / "a.txt", f"a red{sign}cat 1,2,3"
    path.write_text(line + "\n", encoding="utf-8")
    assert captions_of_files({"txt": path.read_bytes()}) == ["a red cat 1,2,3"]
    assert read_texts([path], "words") == read_list(path) == [line]
    assert [label.name for label in parse_words(f"a red{sign}cat", Limits())] == ["a red cat"]
    assert list(read_palette(path)) == [(1, 2, 3)]
    path.write_text(f"red{sign}cat\ndog\n", encoding="utf-8")
    assert [text for _, text in label_lines(path)] == ["red cat", "dog"]
    path.write_text(f"n01: red{sign}cat\n", encoding="utf-8")
    assert _read_names(path) == {"n01": [f"red{sign}cat"]}


@pytest.mark.parametrize(
    "read",
    [
        read_list, read_palette, _read_names, label_lines, check_context_names,
        lambda path: get_templates(str(path)), lambda path: read_texts([path], "words"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a \xff", "not a UTF-8 text"),
        ("a b".encode("utf-16-le"), "not a UTF-8 text"),
        (None, "(does not exist|no such file)"),
    ],
)
def test_what_is_no_text_file_of_a_user_is_told_in_one_wording(
    tmp_path: Path, read: Callable[[Path], object], content: bytes | None, reason: str
) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^[a-zA-Z- ]+ {path}:? .*{reason}"):
        read(path)


def test_the_cache_may_be_below_home_by_its_short_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/c")
    assert cache_folder() == tmp_path / "c/pacl"
    assert shared_folder() == tmp_path / "c/pacl/index"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache/pacl"


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "x:\n  - {b: 1, 'b': 2}", "x: &x {a: 1, a: 1}\ny: *x"])
def test_a_key_that_is_there_twice_is_refused(text):
    for as_written in (False, True):
        with pytest.raises(yaml.YAMLError, match="twice"):
            parse_yaml(text, as_written=as_written)


def test_other_documents_have_the_values_of_pyyaml():
    text = "base: &base {a: 1, b: no}\nown: &own\n  <<: *base\n  a: 2.5\nlast: {<<: *own, a: 2024-10-05}\n2: [x]"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("[no, 1.5, 2024-10-05]", as_written=True) == ["no", "1.5", "2024-10-05"]
    with pytest.raises(yaml.YAMLError):
        parse_yaml("a: [")
