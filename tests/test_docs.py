"""What the pages say is so: links lead somewhere, commands parse, Python runs, tables name all there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pacl.errors import UserError
from pacl.results.formats import FORMATS
from pacl.segment import build_parser
from tests.pages import PAGES, anchors, blocks, commands, links, name_of, parse
from tests.paths import ROOT

COMMANDS = sorted({command.strip() for path in PAGES for command in commands(path)})
SNIPPETS = [path for path in PAGES if blocks(path.read_text(encoding="utf-8"), "python")]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for file, anchor in links(path):
        assert file.exists(), file
        assert not anchor or anchor in anchors(file), f"{file}#{anchor}"


def test_every_page_of_docs_is_reached_from_the_readme() -> None:
    reached = {file for file, _ in links(ROOT / "README.md")}
    for path in (ROOT / "docs").glob("*.md"):
        assert path in reached or any(path in {file for file, _ in links(via)} for via in reached if via in PAGES)


def test_links_and_commands_are_found() -> None:
    assert len(COMMANDS) > 50
    assert len(SNIPPETS) >= 1
    assert all(links(ROOT / name) for name in ("README.md", "docs/training.md", "eval/README.md"))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parse(command, monkeypatch)


@pytest.mark.parametrize(
    "command", ["python -m pacl.segment a.jpg cat --sice 3", "pacl calibrate --lamp", "python -m pacl.train --lr 1"]
)
def test_a_flag_that_there_is_not_is_noticed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((UserError, AssertionError)):
        parse(command, monkeypatch)


@pytest.mark.parametrize("path", SNIPPETS, ids=name_of)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_python_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace for each page, in a folder with the demo photos and nothing else."""
    for name in ("pacl/photos/demo.jpg", "pacl/bundled/demo.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("photo.jpg", "cat.jpg"):
        shutil.copy(ROOT / "pacl/photos/demo.jpg", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks(path.read_text(encoding="utf-8"), "python"):
        exec(compile(code, name_of(path), "exec"), names)


def test_the_map_of_the_code_is_complete() -> None:
    table = section(page("docs/how-it-works.md"), "Map of the code")
    assert set(re.findall(r"`(?:pacl/)?(\w+\.py)`", table)) == {path.name for path in (ROOT / "pacl").glob("[!_]*.py")}
    packages = {path.parent.name for path in (ROOT / "pacl").glob("*/__init__.py")}
    assert set(re.findall(r"`pacl/(\w+)/`", table)) == packages


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=name_of)
def test_files_of_the_repository_that_are_named_exist(path: Path) -> None:
    named = r"(?<![\w/])(?:pacl|eval|tests|configs|docs|notebooks)/[\w./-]+\.(?:py|yaml|md|txt|sh|jpg|ipynb)\b"
    assert not [name for name in re.findall(named, path.read_text(encoding="utf-8")) if not (ROOT / name).exists()]


def test_every_option_is_told_of_and_exists() -> None:
    _, _, switches = page("docs/benchmarks.md").partition("\n## Switches of published protocols\n")
    text = page("docs/segmenting.md") + switches
    flags = {flag for action in build_parser()._actions for flag in action.option_strings} - {"-h", "--help"}
    named = set(re.findall(r"--[a-z_]+", text))
    assert named - {"--help"} <= flags
    assert flags - named <= {"--window_step", "--window_batch"}
    assert set(FORMATS) <= set(re.findall(r"`(\w+)`", section(text, "Files")))


def test_every_configuration_is_in_the_table() -> None:
    table = section(page("docs/training-settings.md"), "Configurations")
    assert set(re.findall(r"`(\w+\.(?:yaml|sh))`", table)) == {path.name for path in (ROOT / "configs").iterdir()}


def test_every_extra_is_in_the_table() -> None:
    named = set(re.findall(r"^\| (.*?) \|", section(page("docs/installing.md"), "Extras"), re.MULTILINE))
    extras = re.findall(
        r"^(\w+) = \[", page("pyproject.toml").partition("optional-dependencies]")[2].partition("\n\n")[0], re.M
    )
    assert {word for cell in named for word in re.findall(r"`(\w+)`", cell)} == set(extras)
