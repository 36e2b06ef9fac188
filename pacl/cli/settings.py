"""The fields of `SegmenterSettings` as flags."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, get_args, get_type_hints

from pacl.errors import UserError
from pacl.segmentation.settings import SegmenterSettings


def add_settings(group: argparse._ArgumentGroup) -> None:
    """A flag for every field of `SegmenterSettings`: its name, type, default and description are the field's own."""
    from docstring_parser import parse_from_object

    texts = {param.arg_name: param.description or "" for param in parse_from_object(SegmenterSettings).params}
    hints = get_type_hints(SegmenterSettings)
    for field in dataclasses.fields(SegmenterSettings):
        hint = hints[field.name]
        kinds = [kind for kind in get_args(hint) or [hint] if kind is not type(None)]
        text = texts[field.name].replace("None:", "Default:").replace("%", "%%")
        if field.default is not None:
            text += f" (default: {field.default})"
        if field.name == "window":
            group.add_argument("--window", metavar="CROP[/STEP]", action=Window, help=text)
        elif field.name == "scales":
            group.add_argument("--scales", metavar="X[,X...]", type=parse_scales, help=text)
        elif isinstance(kinds[0], str):  # Literal
            group.add_argument(f"--{field.name}", choices=kinds, default=field.default, help=text)
        else:
            metavar = {int: "N", float: "X", str: "TEXT"}[kinds[0]]
            group.add_argument(f"--{field.name}", type=kinds[0], metavar=metavar, default=field.default, help=text)


def settings_of(args: argparse.Namespace) -> SegmenterSettings:
    """The settings that the flags of `add_settings` state."""
    return SegmenterSettings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(SegmenterSettings)})


class Window(argparse.Action):
    """``--window CROP/STEP`` says both at once."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        crop, slash, step = value.partition("/")
        if not crop.isdecimal() or (slash and not step.isdecimal()):
            raise UserError(f"{option} {value}: is CROP or CROP/STEP in pixels, such as 224/112")
        namespace.window = int(crop)
        if slash:
            namespace.window_step = int(step)


def parse_scales(text: str) -> tuple[float, ...]:
    """``1,2`` -> (1.0, 2.0).

    Raises:
        argparse.ArgumentTypeError: No numbers with commas between them.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or several such as 1,2") from None
