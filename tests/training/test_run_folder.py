"""A folder of results belongs to one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pacl.errors import ArgumentError
from pacl.models.config import CARD
from pacl.results.kinds import MODEL_FILES
from pacl.training.run_folder import LOCK, RunFolder
from tests.paths import ROOT


def folder(path: Path, *, overwrite: bool = False, resume: bool = False) -> RunFolder:
    return RunFolder(path, "head", "out", overwrite, resume, "choose another")


def started(run: RunFolder) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True)
    run.on_train_start(trainer, None)  # type: ignore[arg-type]


def test_an_empty_folder_is_made_and_claimed_again_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        run = folder(tmp_path / "new")
        with run.claim():
            assert (tmp_path / "new").is_dir()
            started(run)


def test_a_folder_that_was_made_for_nothing_is_deleted(tmp_path: Path) -> None:
    """As after a mistake in the settings, which ends the command before the first step."""
    with suppress(ZeroDivisionError), folder(tmp_path / "new").claim():
        (tmp_path / "new" / "logs").mkdir()
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    with suppress(ZeroDivisionError), folder(tmp_path / "runs/deep/new").claim():
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()
    with suppress(ZeroDivisionError), folder(tmp_path / "runs/new").claim():
        (tmp_path / "runs/other").mkdir()
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]

    run = folder(tmp_path / "new")
    with run.claim():
        started(run)
    with folder(tmp_path / "new").claim():  # it was there before
        pass
    assert (tmp_path / "new").is_dir()


def test_a_run_that_comes_too_late_leaves_the_folder_to_the_other(tmp_path: Path) -> None:
    """Also if it has made the folder."""
    late = folder(tmp_path / "new")
    with folder(tmp_path / "new").claim():
        (tmp_path / "new" / "logs").mkdir()
        with pytest.raises(ArgumentError), late.claim():
            pass
        assert (tmp_path / "new" / "logs").is_dir()


@pytest.mark.parametrize("others", [False, True])
def test_logs_of_a_run_that_did_not_train_are_deleted(tmp_path: Path, others: bool) -> None:
    run = folder(tmp_path, resume=True)
    run.logs = tmp_path / "logs" / "version_1"
    run.logs.mkdir(parents=True)
    if others:
        (tmp_path / "logs" / "version_0").mkdir()
    run.remove_logs()
    assert not run.logs.exists()
    assert (tmp_path / "logs").exists() is others


def test_of_two_runs_the_second_stops(tmp_path: Path) -> None:
    with folder(tmp_path).claim(), pytest.raises(ArgumentError) as error, folder(tmp_path, overwrite=True).claim():
        pass
    assert (error.value.argument, error.value.value) == ("out", tmp_path)


HOLD = """
import sys, time
from tests.training.test_run_folder import folder
from pathlib import Path
with folder(Path(sys.argv[1])).claim():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ArgumentError), folder(tmp_path).claim():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK).exists()
    with folder(tmp_path).claim():
        pass


@pytest.mark.parametrize("name", ["config.json", "checkpoints/best.ckpt", "grids/grid-3.png"])
def test_results_of_another_run_are_refused_resumed_or_replaced(tmp_path: Path, name: str) -> None:
    file, other = tmp_path / name, tmp_path / "notes.txt"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    other.touch()
    with pytest.raises(ArgumentError) as error, folder(tmp_path).claim():
        pass
    assert error.value.argument == "out"
    with folder(tmp_path, resume=True).claim():
        started(folder(tmp_path, resume=True))
    assert file.exists()
    with folder(tmp_path, overwrite=True).claim():
        assert file.exists()  # until the first step
        started(folder(tmp_path, overwrite=True))
    assert not file.exists()
    assert other.exists()


def test_the_other_processes_of_a_training_do_not_claim_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").touch()
    with folder(tmp_path, resume=True).claim():
        monkeypatch.setitem(os.environ, "LOCAL_RANK", "1")
        with folder(tmp_path).claim():
            pass


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(self: Any, timeout: float) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("pacl.locks.FileLock.acquire", no_lock)
    with pytest.warns(UserWarning, match=str(tmp_path)), folder(tmp_path).claim():
        pass


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in MODEL_FILES.items() for file in files])
def test_a_folder_holds_one_kind_of_model(tmp_path: Path, kind: str, file: str, replaced: bool) -> None:
    """Also where models of that kind are replaced."""
    file = file.replace("*", "3")  # of a pattern
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    for other in MODEL_FILES:
        run = RunFolder(tmp_path, other, "out", replaced, False, "choose another")
        if other == kind and replaced:
            with run.claim():
                pass
        else:
            with pytest.raises(ArgumentError, match=file), run.claim():
                pass
    assert (tmp_path / file).exists()


def test_files_that_any_folder_may_have_are_of_no_kind(tmp_path: Path) -> None:
    for name in (CARD, "results.md", "captions.json"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path, "pretrained model", "out", False, False, "").claim():
        pass
