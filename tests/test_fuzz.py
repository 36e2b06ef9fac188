"""Damaged files are errors of the user, for a few seconds; `tests.fuzz` goes on for longer."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from pacl.errors import UserError
from tests import fuzz as fuzzing
from tests.fuzz import damaged, fuzz, read
from tests.fuzz_values import other_values


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_errors_of_the_user(tmp_path: Path) -> None:
    count, finds = fuzz(tmp_path, 0.05, seed=1)
    assert finds == []
    assert count.total() > 20


def test_other_errors_are_found() -> None:
    def fail(error: Exception) -> None:
        raise error

    assert "KeyError" in read(Path("x"), lambda _: fail(KeyError("x")))
    assert read(Path("x"), lambda _: fail(UserError("x"))) == ""
    assert damaged(b"0123456789", random.Random(0)) != b"0123456789"


def test_values_of_files_are_changed_the_same_way_again() -> None:
    content = b'{"a": [1, {"b": "c"}], "d": 2.5}'
    found = [other_values(content, random.Random(seed)) for seed in range(500)]
    assert found == [other_values(content, random.Random(seed)) for seed in range(500)]
    assert len(set(found)) > 100
    assert other_values(b"\x89PNG", random.Random(0)) is None


def spin(_: Path) -> None:
    end = time.process_time() + 5
    while time.process_time() < end:
        pass


def wait(_: Path) -> None:
    try:
        time.sleep(5)
    except OSError as error:
        raise UserError("a timeout is no fault of the file") from error


def test_computing_and_waiting_have_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    computing, waiting = (fuzzing.LIMITS[i][:2] for i in range(2))
    monkeypatch.setattr(fuzzing, "LIMITS", ((*computing, 0.2), (*waiting, 60)))
    assert "SIGPROF" in read(Path("x"), spin)
    monkeypatch.setattr(fuzzing, "LIMITS", ((*computing, 0.2), (*waiting, 0.2)))
    assert "SIGALRM" in read(Path("x"), wait)
    monkeypatch.setattr(fuzzing, "LIMITS", ((*computing, 0.2), (*waiting, 60)))
    assert read(Path("x"), lambda _: time.sleep(0.5)) == ""  # of other programs' time, none counts
    assert signal.getitimer(signal.ITIMER_PROF) == signal.getitimer(signal.ITIMER_REAL) == (0, 0)
