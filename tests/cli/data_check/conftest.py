"""The command in a folder that holds a table with every defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pacl.data import __main__ as dispatcher
from tests.cli.data_check.sources import Check, jpeg


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own, with a table of eight images, four of them good.

    a and b are fine, and so are c, whose pixels are a's, and sub/a.jpg, which has a's name. d is cut short, e is
    missing, f has no caption, g is empty and has no caption either.
    """
    monkeypatch.chdir(tmp_path)
    contents = {"a": jpeg(0), "b": jpeg(1, 300, 400), "c": jpeg(0), "d": jpeg(3)[:400], "f": jpeg(5), "g": b""}
    for name, content in (contents | {"sub/a": jpeg(6)}).items():
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    rows = ["a.jpg,a red cat", "a.jpg,two cats on a mat", "b.jpg,a dog", "c.jpg,a red cat", "d.jpg,a cow"]
    rows += ["e.jpg,a sheep", "f.jpg,", "g.jpg,", "sub/a.jpg,ein Haus am See"]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    (tmp_path / "fine.csv").write_text("\n".join(["image,caption", *rows[:4]]) + "\n")
    return tmp_path


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command in this process: (exit code, standard output, report)."""

    def check(*words: str, workers: str = "0") -> tuple[int, str, dict[str, Any]]:
        with pytest.raises(SystemExit) as stop:
            dispatcher.main(["check", *words, "--workers", workers])
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        if stop.value.code == 2:
            assert captured.err.count("\n") == 1
            return 2, captured.err, {}
        return stop.value.code, captured.out, json.loads(Path("out/check.json").read_text())

    return check
