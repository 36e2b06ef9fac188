"""Names and texts as they are printed: nothing in them ends a line, moves the cursor or fails to be encoded."""

from __future__ import annotations

import re
from pathlib import Path

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, further line separators, and marks that turn the direction of writing."""


def printable(path: str | Path) -> str:
    """A path as text for files; bytes that are not UTF-8 are written as escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def escaped(text: str | Path) -> str:
    """A path or a text for a terminal, in one line: `printable`, with control characters as escapes such as ``\\n``."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), printable(text))


def quoted(text: str, width: int = 60) -> str:
    """A text of the user in quotation marks for a message: in one line, and cut off at ``width`` characters."""
    return f'"{escaped(text if len(text) <= width else text[: width - 3] + "...")}"'


def without_controls(text: str) -> str:
    """A text for one line of a drawing or a table: letters that cannot be shown become spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def rounded(value: float, digits: int) -> float:
    """A number rounded to so many decimals; what rounds to zero has no sign."""
    return round(float(value), digits) + 0.0  # (-0.0 + 0.0 is 0.0)


def decimals(value: float, digits: int, width: int = 0) -> str:
    """A number with so many decimals, at least ``width`` letters wide, see `rounded`."""
    return f"{rounded(value, digits):{width}.{digits}f}"


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """A number of things in words: ``1 image``, ``1,200 images``; ``nouns`` where an s is not enough."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
