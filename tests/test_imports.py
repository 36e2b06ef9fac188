"""Imports point one way: from commands down to what all packages use (docs/how-it-works.md)."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

ORDER = (
    "webapp", "cli", "jobs", "training", "deployment", "index", "classification", "video", "segmentation", "results",
    "scenes", "metrics", "data", "models",
)  # fmt: skip
COMMANDS = {
    "segment", "classify", "similarity", "search", "probe", "app", "bulk", "export", "train", "pretrain", "calibrate",
    "distill", "__main__",
}  # fmt: skip
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "pacl").rglob("*.py"))


def level(module: str) -> int:
    """0 for commands, then one for each package, the last for the modules that all packages use."""
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


def test_only_the_towers_import_open_clip_at_large() -> None:
    """Everything else stays independent of it; tokenizers wrap or count its tokens, prompts read its template list, and
    classification transforms images as it does."""
    allowed = {
        "open_clip_loading.py",
        "open_clip_towers.py",
        "timm_tower.py",
        "tokenizer.py",
        "prompts.py",
        "pretrain_clip.py",
        "statistics.py",
        "preprocessing.py",
    }
    package = ROOT / "pacl"
    users = {
        path.name
        for path in package.rglob("*.py")
        if any(f"{verb} {lib}" in path.read_text() for verb in ("import", "from") for lib in ("open_clip", "timm"))
    }
    assert users <= allowed, os.fspath(package)
