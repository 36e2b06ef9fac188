"""How commands end and what they print: one line each, whatever the output is."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pacl.cli.messages import need_output, one_line, printing, run_verb, say, shown_warnings
from pacl.errors import ImageWarning
from tests.paths import ROOT


def code_of(main: Callable[[], int | None]) -> object:
    with pytest.raises(SystemExit) as stop:
        run_verb("pacl test", main)
    return stop.value.code


def test_letters_that_the_output_does_not_have_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="cp1252"))
    assert code_of(lambda: print("■ Ä \udcff")) == 0
    assert content.getvalue().strip() == b"\\u25a0 \xc4 \\udcff"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("flush", [True, False])
def test_a_full_disk_behind_the_output_is_one_line(
    flush: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        with printing():
            print("result", flush=flush)

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert code_of(main) == 2
    err = capsys.readouterr().err
    assert err.startswith("pacl test: error: standard output ")
    assert len(err.splitlines()) == 1


def test_a_reader_that_has_closed_the_output_ends_the_command_silently(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def main() -> None:
        with printing():
            raise BrokenPipeError

    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert code_of(main) == 141
    assert capsys.readouterr().err == ""


def test_a_message_of_any_length_is_one_line_with_its_beginning_and_its_end() -> None:
    line = one_line("begins " + "a\n" * 60_000 + "ends")
    assert len(line) < 10_000
    assert line.startswith("begins a a")
    assert line.endswith("a ends")


@pytest.mark.parametrize("needed", [True, False])
def test_a_closed_output_is_one_line_where_results_go_there(
    needed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        if needed:
            need_output()
        with printing():
            print("result", flush=True)
        sys.stdout.flush()

    monkeypatch.setattr(sys, "stdout", None)
    assert code_of(main) == (2 if needed else 0)
    assert len(capsys.readouterr().err.splitlines()) == needed


def test_messages_never_go_to_the_output_of_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert code_of(lambda: say("pacl test", "a note")) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("words", ["-m pacl.classify x.png cat dog --csv", "-m eval.report.reproduce"])
def test_commands_that_print_their_results_need_an_output(words: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} {words} >&-"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 2), (errno.EROFS, 2), (errno.EPIPE, 141)])
def test_output_that_cannot_be_written_anywhere_has_no_traceback(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number))  # a `BrokenPipeError` of EPIPE

    assert code_of(main) == code
    assert len(capsys.readouterr().err.splitlines()) == (code == 2)


def test_warnings_of_a_command_have_no_source_code(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        warnings.warn("two names\nare one", stacklevel=1)

    former = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as those of files that earlier tests left open
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda *given: print(warnings.formatwarning(*given[:4]), end="", file=sys.stderr)
        with pytest.raises(SystemExit):
            run_verb("pacl test", main)
    assert capsys.readouterr().err == "pacl test: warning: two names are one\n"
    assert warnings.formatwarning is former


def test_warnings_are_a_line_each_at_once_and_none_is_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_warnings("pacl test", ImageWarning):
        for _ in range(2):
            warnings.warn("an image", ImageWarning, stacklevel=1)
        assert capsys.readouterr().err == "pacl test: warning: an image\n" * 2
        warnings.warn("of a\nlibrary", UserWarning, stacklevel=1)
        assert capsys.readouterr().err == "pacl test: warning: of a library\n"
        warnings.warn("for developers", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=["thread", "library", "Python", "system"],
)
def test_memory_that_runs_out_anywhere_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    assert code_of(main) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_errors_of_the_program_keep_their_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        run_verb("pacl test", main)
