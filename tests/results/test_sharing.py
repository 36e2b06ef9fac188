"""Which results may share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.results.sharing import of_other_labels, of_other_model
from tests.results.drawn import write_one


@pytest.mark.parametrize(("labels", "found"), [("ab", False), ("ac", True)])
def test_results_of_other_labels_are_found(tmp_path: Path, labels: str, found: bool) -> None:
    write_one(tmp_path, ("rle",), "a", "b")
    other = of_other_labels(tmp_path, labels)
    assert (other is not None and other[0].name == "a.json") == found
    assert not of_other_labels(tmp_path, labels, {tmp_path / "a.json"})


@pytest.mark.parametrize(
    ("labels", "model", "found"),
    [
        ("ab", {"name": "tiny"}, False),
        ("ab", {"name": "x"}, True),
        ("ab", {"name": "tiny", "weights": "1"}, True),  # the record states none
        ("ac", {"name": "x"}, False),
    ],
)
def test_results_of_another_model_are_found(tmp_path: Path, labels: str, model: dict[str, str], found: bool) -> None:
    write_one(tmp_path, ("rle",), "a", "b")
    other = of_other_model(tmp_path, labels, model)
    assert (other is not None and other[0].name == "a.json") == found
    assert not of_other_model(tmp_path, labels, model, {tmp_path / "a.json"})
