"""The README of the benchmarks: its tables match the code. Its links and commands: tests/test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import eval as package
from eval.classification.image_sets import IMAGE_BENCHMARKS
from eval.retrieval.caption_sets import LAYOUTS
from eval.segmentation.protocol import PROTOCOLS, read_protocol
from eval.segmentation.registry import BENCHMARKS

PAGE = (Path(package.__path__[0]) / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*BENCHMARKS, *LAYOUTS, *IMAGE_BENCHMARKS, *PROTOCOLS])
def test_all_names_are_on_the_page(name):
    assert re.search(rf"\b{name}\b", PAGE)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_numbers_of_images(name):
    (row,) = (
        line
        for line in PAGE.split("## Labels")[1].split("\n## ")[0].splitlines()
        if re.match(rf"\|[^|]*\b{name}\b", line)
    )
    benchmark = BENCHMARKS[name]
    assert f"| {benchmark.split}, {benchmark.full[benchmark.split]:,} |" in row


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_table_of_protocols(name):
    """Its first numbers are the settings on most benchmarks."""
    lines = PAGE.split("## Protocols")[1].splitlines()
    head = next(line for line in lines if "`sclip`" in line)
    column = [cell.strip() for cell in head.split("|")].index(f"`{name}`")
    table = {line.split("|")[1].strip(): line.split("|")[column].strip() for line in lines if line.count("|") == 8}
    protocol = read_protocol(name, "context59", background=False)
    assert table["short side"].startswith(str(protocol.settings.size or "the model's own"))
    window = f"{protocol.settings.window} / {protocol.settings.window_step}" if protocol.settings.window else "none"
    assert table["window / step"].startswith(window)
    assert table["logit scale"].startswith(
        f"{protocol.settings.logit_scale:g}" if protocol.settings.logit_scale else ("CLIP's", "the")
    )
    assert read_protocol(name, "voc20", background=False).names == table["names"].split()[0]
    assert table["PAMR"].startswith(f"{protocol.settings.refine} steps" if protocol.settings.refine else "-")


def test_every_room_is_on_the_map():
    packages = {path.parent.name for path in Path(package.__path__[0]).glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE)) == packages


def test_every_command_is_in_the_table():
    root = Path(package.__path__[0])
    commands = {
        ".".join(["eval", *path.relative_to(root).with_suffix("").parts]).removesuffix(".__main__")
        for path in root.rglob("*.py")
        if "run_verb(" in path.read_text(encoding="utf-8")
    }
    assert set(re.findall(r"^\|[^|]*\| `(eval[.\w]*)` \|", PAGE, re.MULTILINE)) == commands
