"""Imports point one way: from commands down to what all rooms use (docs/how-it-works.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

ORDER = ("cli", "training", "classification", "segmentation", "results", "scenes", "metrics", "data", "models")
COMMANDS = {"segment", "classify", "similarity", "train", "probe", "pretrain", "calibrate", "distill", "__main__"}
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "pacl").rglob("*.py"))


def level(module: str) -> int:
    """0 for commands, then one for each room, the last for the modules that all rooms use."""
    names = module.split(".")[1:]
    if not names or COMMANDS & {names[0], names[-1]}:
        return 0
    return 1 + ORDER.index(names[0]) if names[0] in ORDER else 1 + len(ORDER)


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, also in functions and for type checks."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_imports_only_its_own_level_and_those_below(path: Path) -> None:
    module = ".".join(path.with_suffix("").parts)
    if path.name == "__init__.py":  # names of the package are imported from anywhere when they are used
        return
    found = [name for name in imports(path) if name.split(".")[0] in ("pacl", "eval")]
    assert [name for name in found if name.startswith("eval")] == []
    assert [name for name in found if name.startswith("pacl.") and level(name) < level(module)] == []
