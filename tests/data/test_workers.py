"""No loader starts more processes than there are cores: torch would warn, and nothing would be faster."""

from __future__ import annotations

import ast

import pytest

from pacl.data.workers import cores, usable
from tests.paths import ROOT


def test_no_more_than_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable(10_000) == cores()
    monkeypatch.setattr("pacl.data.workers.cores", lambda: 3)
    assert [usable(n) for n in (0, 2, 3, 8)] == [0, 2, 3, 3]


def test_every_loader_asks() -> None:
    for path in {*(ROOT / "pacl").rglob("*.py"), *(ROOT / "eval").rglob("*.py")} - {ROOT / "pacl/data/shard_loader.py"}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "num_workers":
                called = node.value.func if isinstance(node.value, ast.Call) else None
                assert isinstance(called, ast.Name), path
                assert called.id == "usable", path
