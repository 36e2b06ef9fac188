"""Checks of arguments that several functions have."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pacl.errors import ArgumentError, UserError, are_several, check_count, did_you_mean


def test_whole_numbers_of_any_type_are_counts() -> None:
    assert [check_count("top", value) for value in (1, np.int64(7), np.uint8(3))] == [1, 7, 3]
    assert type(check_count("top", np.int64(7))) is int
    assert check_count("first_id", 0, least=0) == 0


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "3", None, float("nan"), np.float32(2)])
def test_anything_else_is_an_error_of_its_argument(value: Any) -> None:
    with pytest.raises(ArgumentError) as refused:
        check_count("top", value)
    assert refused.value.argument == "top"


@pytest.mark.parametrize(
    "value",
    [[], ("a",), np.zeros(3), {"a": 1}.keys(), {"a": 1}.values(), iter("ab")],
    ids=lambda value: type(value).__name__,
)
def test_what_has_an_order_are_several(value: object) -> None:
    assert are_several(value)


@pytest.mark.parametrize(
    "value",
    ["ab", b"ab", {"a", "b"}, frozenset("ab"), {"a": 1}, Path("a"), 3, None],
    ids=lambda value: type(value).__name__,
)
def test_a_text_and_what_has_no_order_are_not_several(value: object) -> None:
    assert not are_several(value)


def test_a_mistyped_name_is_asked_about_in_one_wording() -> None:
    assert did_you_mean("contxt59", {"voc20": 1, "context59": 2}) == "did you mean 'context59'?"
    assert did_you_mean("voc2O", ["voc20", "voc21"], count=2) == "did you mean 'voc20' or 'voc21'?"
    assert did_you_mean("--widow", ["--window", "--out"]) == "did you mean --window?"
    assert did_you_mean("zebra", ["voc20"]) == ""
    assert did_you_mean("vocal", ["voc20"], cutoff=0.9) == ""


def test_advice_names_arguments_or_flags() -> None:
    error = UserError("images/a.csv: set images, or image_column and caption_column", "image_column", "images")
    assert str(error) == "images/a.csv: set images, or image_column and caption_column"
    assert error.with_flags() == "images/a.csv: set --images, or --image_column and caption_column"
    assert error.with_flags("--data.").count("--data.") == 2
    assert (
        UserError("a: set names, or a_names and names_b", "names").with_flags()
        == "a: set --names, or a_names and names_b"
    )
    copy = pickle.loads(pickle.dumps(error))  # as from another process
    assert (str(copy), copy.advised) == (str(error), error.advised)
    assert UserError("x", "y").with_flags() == "x"
    assert ArgumentError("out", "a", "set overwrite", "overwrite").with_flags() == "out a: set --overwrite"
