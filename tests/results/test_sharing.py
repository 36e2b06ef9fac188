"""Which results may share a folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from pacl.errors import ArgumentError
from pacl.results.sharing import check_same_labels, check_same_model, difference, of_other_labels
from tests.results.drawn import write_one


@pytest.mark.parametrize(("labels", "found"), [("ab", False), ("ac", True)])
def test_results_of_other_labels_are_found(tmp_path: Path, labels: str, found: bool) -> None:
    write_one(tmp_path, ("rle",), "a", "b")
    other = of_other_labels(tmp_path, labels)
    assert (other is not None and other[0].name == "a.json") == found
    assert not of_other_labels(tmp_path, labels, {tmp_path / "a.json"})


def test_records_that_are_replaced_do_not_hide_others(tmp_path: Path) -> None:
    names = [f"{i}" for i in range(4)]
    for name in names:
        write_one(tmp_path, ("rle",), "a", "b", name=name)
    for kept in names:  # whatever the order in which the folder is read
        replaced = {tmp_path / f"{name}.json" for name in names if name != kept}
        other = of_other_labels(tmp_path, "ac", replaced, looked_at=1)
        assert other is not None
        assert other[0].stem == kept


def test_a_folder_of_other_labels_is_refused_by_the_callers_name_for_it(tmp_path: Path) -> None:
    write_one(tmp_path, ("rle",), "a", "b")
    check_same_labels(tmp_path, "ab", "folder")
    with pytest.raises(ArgumentError) as error:
        check_same_labels(tmp_path, "ac", "folder")
    assert error.value.argument == "folder"


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"name": "tiny"}, False),
        ({}, False),  # nothing is known of it yet
        ({"name": "x"}, True),
        ({"name": "tiny", "weights": "1"}, True),  # the record states none
    ],
)
def test_a_folder_of_another_model_is_refused(tmp_path: Path, model: dict[str, str], found: bool) -> None:
    write_one(tmp_path, ("rle",), "a", "b")
    with pytest.raises(ArgumentError) if found else nullcontext():
        check_same_model(tmp_path, model)


@pytest.mark.parametrize("theirs", [{"name": "a", "weights": "1"}, {"name": "a"}, {}, None, "a"], ids=str)
def test_models_differ_in_name_or_weights(theirs: object) -> None:
    record = {"model": theirs}
    assert difference(record, {}) is None
    assert (difference(record, {"name": "a", "weights": "1"}) is None) == (theirs == {"name": "a", "weights": "1"})
    assert difference(record, {"name": "b"}) is not None
