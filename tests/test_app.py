"""The command as its user meets it: one line for a mistake, a clean end, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from pacl.app import build, main
from pacl.cli.messages import run_verb
from pacl.models.loading import load_model
from pacl.webapp.server import OVERRIDING, folder_of_its_own, free_port
from tests.paths import ROOT

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command: (exit code, standard error)."""

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            run_verb("pacl app", lambda: main(words))
        assert isinstance(stop.value.code, int)
        return stop.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes are found before the model is loaded."""

    def load(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("pacl.app.load", load)


@pytest.mark.usefixtures("no_model")
def test_a_setting_may_wait_for_a_slider() -> None:
    with pytest.raises(AssertionError, match="loaded"):
        main(["--port", "0", "--refine_on", "cosines"])


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--port", "70000"), "--port 70000"),
        (("--port", "x"), "--port"),
        (("--host", "no such host"), "--host"),
        (("--host", "192.0.2.1"), "--host"),  # reserved for documentation
        (("--refine", "-1"), "--refine"),
        (("--templates", "nothing"), "--templates"),
        (("--shared",), "--share"),
    ],
)
def test_a_mistake_is_one_line(run: Run, words: tuple[str, ...], named: str) -> None:
    pytest.importorskip("gradio")
    code, err = run(*words)
    assert code == 2
    assert err.count("\n") == 1
    assert named in err


@pytest.mark.usefixtures("no_model")
def test_a_port_in_use_is_one_line(run: Run) -> None:
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = run("--port", str(port))
    assert (code, err.count("\n")) == (2, 1)
    assert f"--port {port}" in err
    assert free_port("127.0.0.1", port) == port


def test_a_bad_model_is_one_line(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    code, err = run("--port", "0", "--model", str(tmp_path))
    loading, line = err.splitlines()
    assert code == 2
    assert "error:" not in loading
    assert line.startswith("pacl app: error:")


@pytest.mark.usefixtures("no_model")
def test_without_gradio_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, err = run("--port", "0")
    assert (code, err.count("\n")) == (2, 1)
    assert 'pip install "pacl[app]"' in err


def test_the_environment_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OVERRIDING:
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with folder_of_its_own() as folder:
        assert not set(OVERRIDING) & set(os.environ)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "upload.png").touch()
        if os.name == "posix":
            assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert set(OVERRIDING) <= set(os.environ)
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_the_page_is_gradios_blocks_and_keeps_to_this_machine(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    page = build(load_model(tiny_clip))
    assert isinstance(page, gradio.Blocks)
    assert not page.analytics_enabled
    seen: dict[str, object] = {}

    def launch(self: object, share: bool | None = None, allowed_paths: object = None) -> None:
        seen.update(share=share, allowed_paths=allowed_paths)

    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    page.launch(share=True)
    assert seen["share"] is True
    page.launch()
    assert seen == {"share": False, "allowed_paths": []}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_ends_cleanly(tiny_clip: str, tmp_path: Path, number: signal.Signals, code: int) -> None:
    pytest.importorskip("gradio")
    command = [sys.executable, "-m", "pacl.app", "--model", tiny_clip, "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=60) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert list(tmp_path.glob("pacl-app-*"))
        server.send_signal(number)
        try:
            _, err = server.communicate(timeout=60)
        finally:
            server.kill()  # where it did not end
    assert server.returncode == code
    loading, *more = err.splitlines()
    assert tiny_clip in loading, "said before it takes seconds"
    assert more == (["pacl app: interrupted"] if code else [])
    assert not list(tmp_path.iterdir())
    assert tempfile.gettempdir() != str(tmp_path)
