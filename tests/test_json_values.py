"""Values of JSON files have the types of the fields of dataclasses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from pacl.json_values import from_values, has_type


@dataclass
class Example:
    name: str
    count: int = 1
    size: float | None = None
    parts: dict[str, list[float]] = field(default_factory=dict)


def test_a_dataclass_comes_back() -> None:
    values = {"name": "a", "count": 3, "size": 2, "parts": {"x": [1, 2.5]}}
    assert from_values(Example, values) == Example("a", 3, 2, {"x": [1, 2.5]})
    assert from_values(Example, {"name": "a"}) == Example("a")


@pytest.mark.parametrize(
    "values",
    [
        None, [], "a", {}, {"name": 1}, {"name": "a", "count": True}, {"name": "a", "count": 1.0},
        {"name": "a", "size": "1"}, {"name": "a", "size": math.nan}, {"name": "a", "size": 10**400},
        {"name": "a", "count": 2**63},
        {"name": "a", "parts": []}, {"name": "a", "parts": {"x": 1}}, {"name": "a", "parts": {"x": [None]}},
        {"name": "a", "other": 1},
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_other_values_are_refused_in_one_line(values: Any) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        from_values(Example, values)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_types_of_json() -> None:
    assert has_type("a", Literal["a", "b"])
    assert not has_type(["a"], Literal["a", "b"])
    assert has_type([{"a": None}], Any)
    assert has_type(math.inf, float)
    assert not has_type(True, float)
