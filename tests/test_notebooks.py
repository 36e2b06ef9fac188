"""The notebooks run offline, cell by cell, and are committed without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.slow


def code_cells(path: Path) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a notebook's cells in this process: no kernel is needed, and none is to be installed for the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the commands that cells start
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run_cells(name: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for number, source in enumerate(code_cells(ROOT / "notebooks" / name)):
            exec(compile(source, f"{name}, code cell {number}", "exec"), names)
        return names

    return run_cells


def test_segment(run: Any) -> None:
    names = run("segment.ipynb")
    assert names["found"].labels == ["a cat", "a blanket"]
    assert names["found"].shares[0] > 0.5
    assert {path.suffix for path in names["folder"].iterdir()} == {".png", ".json"}


def test_train(run: Any) -> None:
    names = run("train.ipynb")
    assert names["recalls"][-1] > 2 * names["recalls"][0]
    assert names["recalls"][-1] > 2 * names["chance"]
    assert names["right"]["after"] > max(names["right"]["before"], names["largest"])


def test_there_are_no_others() -> None:
    assert [path.name for path in NOTEBOOKS] == ["segment.ipynb", "train.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
