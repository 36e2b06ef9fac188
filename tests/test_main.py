"""The dispatcher: verbs, help and version, without anything heavy."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from pacl import __main__ as dispatcher
from pacl.errors import UserError
from tests.paths import ROOT


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        dispatcher.main(words)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in dispatcher.VERBS)
    assert call() == 2
    assert "segment" in capsys.readouterr().err


@pytest.mark.parametrize("verb", dispatcher.VERBS)
def test_every_verb_prints_the_version(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == call(verb, "--version") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


@pytest.mark.parametrize("verb", dispatcher.VERBS)
def test_every_verb_is_a_module_with_a_main(verb: str) -> None:
    path = ROOT / "pacl" / f"{verb}.py"
    path = path if path.is_file() else path.with_suffix("") / "__main__.py"
    assert "def main(arg" in path.read_text()


def test_a_wrong_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("segmnt", "a.jpg") == 2
    assert capsys.readouterr().err == "pacl: error: 'segmnt' is not a verb; did you mean 'segment'?\n"
    assert call("photo.jpg") == 2
    assert "choose from segment, classify, " in capsys.readouterr().err


def test_words_after_the_verb_and_its_exit_code_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("pacl.segment.main", lambda argv: seen.append(argv) or 1)
    assert call("segment", "a.jpg", "--json") == 1
    assert seen == [["a.jpg", "--json"]]


def test_mistakes_name_the_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Any) -> int:
        raise UserError("--size 0:\nmust be at least 1")

    monkeypatch.setattr("pacl.segment.main", broken)
    assert call("segment") == 2
    assert capsys.readouterr().err == "pacl segment: error: --size 0: must be at least 1\n"


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("pacl.segment.main", interrupted)
    assert call("segment") == 130
    assert capsys.readouterr().err == "pacl segment: interrupted\n"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pacl.cli.dispatch.version", lambda _: "1.2.3")
    assert call("--version") == 0
    assert capsys.readouterr().out == "pacl 1.2.3\n"

    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr("pacl.cli.dispatch.version", missing)
    assert call("--version") == 0
    assert capsys.readouterr().out == "pacl (not installed)\n"


@pytest.mark.parametrize("words", [["-m", "pacl", "--help"], ["-c", "import pacl"]])
def test_nothing_heavy_is_imported(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "pacl" in imported or "pacl.errors" in imported
    assert imported.isdisjoint({"torch", "numpy", "cv2", "pytorch_lightning"})


@pytest.mark.parametrize("module", ["pacl.segment", "pacl", "eval.segmentation"])
def test_a_python_without_the_libraries_is_one_line(module: str) -> None:
    command = [sys.executable, "-S", "-m", module, "--help"]  # -S: without site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "numpy" in done.stderr
    assert subprocess.run([sys.executable, "-S", "-c", "import pacl"], cwd=ROOT, check=False).returncode == 0
