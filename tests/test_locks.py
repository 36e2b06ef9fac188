"""Locks between processes; what a killed process held is tested where locks are used."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from pacl.locks import lock


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with lock(path, "") as first, lock(path, "") as second, lock(tmp_path / "y.lock", "") as other:
        assert (first, second, other) == (True, False, True)
    with lock(path, "") as free:
        assert free


@pytest.mark.parametrize("error", [TimeoutError, ZeroDivisionError])
def test_a_block_that_fails_gives_its_lock_back(tmp_path: Path, error: type[Exception]) -> None:
    with pytest.raises(error), lock(tmp_path / "x", ""):
        raise error
    with lock(tmp_path / "x", "") as free:
        assert free


@pytest.mark.parametrize("error", [OSError(37, "No locks available"), NotImplementedError("no locks")])
def test_where_there_are_no_locks_the_block_runs_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_lock(self: Any, timeout: float) -> None:
        raise error

    monkeypatch.setattr("pacl.locks.FileLock.acquire", no_lock)
    with pytest.warns(UserWarning, match=str(tmp_path)) as warned, lock(tmp_path / "x", "take care") as free:
        assert free
    assert "take care" in str(warned[0].message)


def test_a_lock_that_is_held_elsewhere_is_no_warning(tmp_path: Path) -> None:
    with lock(tmp_path / "x", ""), warnings.catch_warnings():
        warnings.simplefilter("error")
        with lock(tmp_path / "x", "", wait=0.1) as free:
            assert not free
