"""The records in a folder of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.results.records import read_record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image": 1}', "\x00"])
def test_other_files_are_no_records(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_record(tmp_path / "a.json") is None
