"""Palettes of colour masks: which colour stands for which class.

A palette file has a name and a colour on each line, in any of these notations; ``#`` starts a comment:

    road:128,64,128::        CVAT's labelmap.txt
    road,128,64,128          a table with or without a header, separated by commas, semicolons, tabs or spaces
    128 64 128 road          CamVid's label_colors.txt
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pacl.errors import ArgumentError
from pacl.files import read_text, split_lines
from pacl.prompts import Label

Colour = tuple[int, int, int]

_NUMBERS = r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)"
_NAME_FIRST = re.compile(rf"(?P<name>.*?\S)\s*[\s:,;=]\s*{_NUMBERS}\s*(?::.*)?")
_NAME_LAST = re.compile(rf"{_NUMBERS}[\s:,;=]+(?P<name>\S.*)")


def read_palette(path: str | Path) -> dict[Colour, str]:
    """The names of the colours of a palette file, in its order.

    Raises:
        UserError: the file cannot be read.
        ArgumentError: ``palette``: a line is no name with a colour, or a colour has two names.
    """
    found: dict[Colour, str] = {}
    for number, line in enumerate(map(str.strip, split_lines(read_text(path, "palette file")))):
        if not line or line.startswith("#"):
            continue
        match = _NAME_LAST.fullmatch(line) or _NAME_FIRST.fullmatch(line)
        if match is None and number == 0 and not re.search(r"\d", line):
            continue  # the header of a table
        colour = tuple(int(x) for x in match.groups() if x.isdecimal() and len(x) < 10)[-3:] if match else ()
        if match is None or len(colour) != 3 or max(colour) > 255:
            raise ArgumentError("palette", path, f'"{line}" is no name with a colour, such as "road:128,64,128"')
        r, g, b = colour
        name = match["name"].strip()
        if found.setdefault((r, g, b), name) != name:
            raise ArgumentError("palette", path, f"{r},{g},{b} is the colour of {found[r, g, b]} and of {name}")
    if not found:
        raise ArgumentError("palette", path, "has no colours")
    return found


def classes_of(palette: dict[Colour, str], labels: Sequence[Label], path: str | Path, unnamed: int) -> list[int]:
    """The class of every colour of a palette; ``unnamed`` for colours whose name is no class.

    Args:
        palette: of `read_palette`.
        labels: the C classes; a colour belongs to the class that has its name as label or prompt, in upper or lower
            case and with ``_`` for spaces.
        path: of the palette, for errors.
        unnamed: class number of the others.

    Raises:
        ArgumentError: ``palette``: a class has no colour.
    """
    known = {_plain(prompt): i for i, label in enumerate(labels) for prompt in label.prompts}
    known |= {_plain(label.name): i for i, label in enumerate(labels)}
    classes = [known.get(_plain(name), unnamed) for name in palette.values()]
    if lacking := [label.name for i, label in enumerate(labels) if i not in classes]:
        raise ArgumentError(
            "palette", path, f"has no colour for {', '.join(lacking[:5])}; its names must be the classes'"
        )
    return classes


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def packed(colours: np.ndarray) -> np.ndarray:
    """RGB uint8 [..., 3] as one number each, int32 [...]."""
    r, g, b = np.moveaxis(colours.astype(np.int32), -1, 0)
    return (r << 16) | (g << 8) | b


def unpacked(number: int) -> str:
    """A colour of `packed` in words, such as ``128,64,128``."""
    return f"{number >> 16},{number >> 8 & 255},{number & 255}"
