"""Dataclasses and JSON: fields that JSON can hold, and values of files that have the types of the fields."""

from __future__ import annotations

import math
import sys
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def use_python_numbers(config: Any) -> None:
    """Replace NumPy's numbers in the fields of a dataclass, also in lists and tuples, by Python's, for JSON."""
    for name, value in vars(config).items():
        object.__setattr__(config, name, _to_python(value))  # it may be frozen


def _to_python(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_to_python, value))
    numpy = sys.modules.get("numpy")  # without its import, which takes long, there are none
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def from_values(kind: type[T], values: Any) -> T:
    """A dataclass of values that were read from JSON.

    Raises:
        ValueError: they are no object, or a field is missing, unknown or of another type.
    """
    hints = get_type_hints(kind)
    if not isinstance(values, dict):
        raise ValueError(f"{values!r:.60} is no object")
    for name, value in values.items():
        if name not in hints or not has_type(value, hints[name]):
            raise ValueError(f"{name!r:.60} is {value!r:.60}")
    try:
        return kind(**values)
    except TypeError as error:  # one is missing
        raise ValueError(str(error)) from None


def has_type(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON has the type of a field.

    Args:
        value: of a file; a whole number is a float, too, unless it is too large for one. NaN is none. An int has at
            most 64 bits.
        hint: str, bool, int, float, None, Any, a ``Literal``, or lists, dictionaries with texts for keys and unions of
            these.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(has_type(value, each) for each in args)
    if origin is Literal:
        return value in args
    if origin is list:
        return isinstance(value, list) and all(has_type(each, args[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(has_type(each, args[1]) for each in value.values())
    if hint in (None, NoneType):
        return value is None
    if hint is float:
        if isinstance(value, float):
            return not math.isnan(value)
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return hint is Any or isinstance(value, hint)
