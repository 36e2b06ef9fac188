"""The page of the benchmarks says what is so: its commands parse, its tables are those of the code."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

import eval as package
from eval.classification.image_sets import IMAGE_BENCHMARKS
from eval.retrieval.caption_sets import LAYOUTS
from eval.segmentation.protocol import PROTOCOLS, read_protocol
from eval.segmentation.registry import BENCHMARKS

PAGE = (Path(package.__path__[0]) / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python -m ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    _, _, module, *words = shlex.split(command)
    importlib.import_module(module).build_parser().parse_args(words)


def test_the_commands_are_found():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("name", [*BENCHMARKS, *LAYOUTS, *IMAGE_BENCHMARKS, *PROTOCOLS])
def test_everything_there_is_is_on_the_page(name):
    assert re.search(rf"\b{name}\b", PAGE)


def test_linked_files_exist():
    for link in re.findall(r"\]\(([^)h][^)]*)\)", PAGE):
        assert (Path(package.__path__[0]) / link).exists(), link


@pytest.mark.parametrize("name", BENCHMARKS)
def test_numbers_of_pictures(name):
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
    assert table["short side"].startswith(str(protocol.size or "the model's own"))
    window = f"{protocol.window} / {protocol.window_step}" if protocol.window else "none"
    assert table["window / step"].startswith(window)
    assert table["logit scale"].startswith(f"{protocol.logit_scale:g}" if protocol.logit_scale else ("CLIP's", "the"))
    assert read_protocol(name, "voc20", background=False).names == table["names"].split()[0]
    assert table["PAMR"].startswith(f"{protocol.refine} steps" if protocol.refine else "-")


def test_every_module_is_on_the_map():
    named = set(re.findall(r"`(\w+\.py)`", PAGE.split("## How it is built")[1]))
    there = {path.name for path in Path(package.__path__[0]).glob("*.py")} - {"__init__.py"}
    assert named == there
