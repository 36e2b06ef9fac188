"""A run replaces neither files of others nor results of another folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.errors import ArgumentError
from pacl.results.replacing import check_free
from tests.results.drawn import write_one


def test_results_of_a_folder_below_are_not_replaced(tmp_path: Path) -> None:
    write_one(tmp_path / "mine", ("mask",), "cat", "wall", name="a")
    write_one(tmp_path, ("mask",), "cat", "wall", name="other/a")
    check_free(tmp_path, ["other/a", "mine/b", "a"])
    with pytest.raises(ArgumentError) as error:
        check_free(tmp_path, ["other/a", "mine/a"])
    assert error.value.argument == "out"
