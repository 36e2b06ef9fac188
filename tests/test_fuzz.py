"""Damaged files are errors of the user, for a few seconds; `tests.fuzz` goes on for longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pacl.errors import UserError
from tests.fuzz import damaged, fuzz, read


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
