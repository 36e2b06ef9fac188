"""The fields of `SegmenterSettings` as flags."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection
from typing import Any, get_args, get_origin, get_type_hints

from pacl.errors import ArgumentError
from pacl.segmentation.settings import SegmenterSettings

COMMON = (
    "background",
    "prior",
    "refine",
    "templates",
    "size",
    "window",
    "window_step",
    "scales",
    "stride",
    "precision",
)
"""The fields that users set, in the order of the help; others are for comparing with published figures, or rare."""


def add_settings(
    group: argparse._ArgumentGroup,
    others: argparse._ArgumentGroup | None = None,
    *,
    skip: Collection[str] = (),
    defaults: bool = True,
) -> None:
    """A flag for every field of `SegmenterSettings`: its name, type, default and description are the field's own.

    Args:
        group: of the parser.
        others: for those that are not `COMMON`; None is ``group``, too.
        skip: fields without a flag.
        defaults: without them, a flag that is not given leaves no trace; see `given_settings`.
    """
    from docstring_parser import parse_from_object

    texts = {param.arg_name: param.description or "" for param in parse_from_object(SegmenterSettings).params}
    hints = get_type_hints(SegmenterSettings)
    fields = {field.name: field for field in dataclasses.fields(SegmenterSettings)}
    for name in dict.fromkeys([*COMMON, *fields]):
        field = fields[name]
        if name in skip:
            continue
        kinds = [kind for kind in get_args(hints[name]) or [hints[name]] if kind is not type(None)]
        text = texts[name].replace("None:", "Default:" if defaults else "null:").replace("%", "%%")
        if field.default is not None and defaults:
            text += f" (default: {field.default})"
        options: dict[str, Any] = {"help": text, "default": field.default if defaults else argparse.SUPPRESS}
        if name == "window":
            options |= {"metavar": "CROP[/STEP]", "action": Window}
        elif get_origin(kinds[0]) is tuple:
            options |= {"metavar": "X[,X...]", "type": numbers(get_args(kinds[0])[0])}
        elif isinstance(kinds[0], str):  # Literal
            options |= {"choices": kinds}
        elif kinds == [int, str]:
            options |= {"metavar": "N|TEXT", "type": number_or_text}
        else:
            options |= {"metavar": {int: "N", float: "X", str: "TEXT"}[kinds[0]], "type": kinds[0]}
        (group if others is None or name in COMMON else others).add_argument(f"--{name}", **options)


def settings_of(args: argparse.Namespace) -> SegmenterSettings:
    """The settings that the flags of `add_settings` state."""
    settings = SegmenterSettings(**given_settings(args))
    if settings.refine_on != SegmenterSettings.refine_on:
        check_refine_on(settings)
    return settings


def check_refine_on(settings: SegmenterSettings) -> None:
    """Refuse a `refine_on` that a flag gave where nothing is refined; protocols may state one for a later `refine`.

    Raises:
        ArgumentError: it would decide nothing.
    """
    if not settings.refine_steps:
        reason = "has no effect alone; set refine to a number, such as 10"
        raise ArgumentError("refine_on", settings.refine_on, reason, "refine")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `SegmenterSettings` that flags set; without defaults (see `add_settings`) only those given."""
    return {f.name: getattr(args, f.name) for f in dataclasses.fields(SegmenterSettings) if hasattr(args, f.name)}


class Window(argparse.Action):
    """``--window CROP/STEP`` sets both fields at once; ``--window whole`` is None."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        if value == "whole":
            namespace.window, namespace.window_step = None, None
            return
        crop, slash, step = value.partition("/")
        if not crop.isdecimal() or (slash and not step.isdecimal()):
            raise ArgumentError("window", value, 'must be CROP or CROP/STEP in pixels, such as 224/112, or "whole"')
        if slash and not 1 <= int(step) <= int(crop):
            raise ArgumentError("window", value, f"the step must be from 1 to {crop} pixels")
        namespace.window = int(crop)
        if slash:
            namespace.window_step = int(step)


def number_or_text(text: str) -> int | str:
    """A whole number as such, any other text as it is."""
    try:
        return int(text)
    except ValueError:
        return text


def numbers(kind: type) -> Callable[[str], tuple[Any, ...]]:
    """A parser of ``1,2`` as a tuple of numbers of a type; it raises `argparse.ArgumentTypeError`."""

    def parse(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number or several such as 1,2") from None

    return parse
