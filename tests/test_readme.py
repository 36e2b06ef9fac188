"""What the README says is so: its links lead somewhere, its flags exist, its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from pacl.results.writer import FORMATS
from pacl.segment import build_parser
from tests.paths import ROOT

TEXT = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", TEXT)
    headings = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    assert targets
    for path, anchor in targets:
        assert not path or (ROOT / path).exists(), path
        assert not anchor or anchor[1:] in headings, anchor


def test_the_map_of_the_code_is_complete() -> None:
    table = section("How it works")
    assert set(re.findall(r"`(?:pacl/)?(\w+\.py)`", table)) == {path.name for path in (ROOT / "pacl").glob("[!_]*.py")}
    rooms = {path.parent.name for path in (ROOT / "pacl").glob("*/__init__.py")}
    assert set(re.findall(r"`pacl/(\w+)/`", table)) == rooms


def test_every_option_is_told_of_and_exists() -> None:
    flags = {flag for action in build_parser()._actions for flag in action.option_strings} - {"-h", "--help"}
    named = set(re.findall(r"--[a-z_]+", section("Options") + section("Models") + section("Results")))
    assert named - {"--help"} <= flags
    assert flags - named <= {"--window_step", "--window_batch"}
    assert set(FORMATS) <= set(re.findall(r"`(\w+)`", section("Results")))


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    monkeypatch.chdir(tmp_path)
    with Image.open(ROOT / "pacl" / "bundled" / "demo.jpg") as picture:
        picture.save("image.jpg")
        size = picture.size
    names: dict[str, object] = {}
    exec(code.replace('"auto"', '"bundled"'), names)
    assert names["found"].mask("a dog").shape == size[::-1]  # type: ignore[attr-defined]
