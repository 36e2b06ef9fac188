"""Where results go when nobody says where: every command has a folder of its own.

The folder's name ends in a digest of everything that decides the numbers, so that another command never replaces
results and the same command finds its own again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DIGITS = 8  # hexadecimal: two of a thousand commands share a name once in ten thousand times


def own_folder(base: Path, name: str, settings: dict[str, Any]) -> Path:
    """The folder of one command's results: ``base/NAME-1a2b3c4d``; nothing is made.

    Args:
        base: where the folders of all such commands lie.
        name: of the data set.
        settings: everything that decides the numbers, in any order; values are what JSON knows, and paths. File
            names that are no UTF-8 are welcome.

    Raises:
        TypeError: A value is none of these.
    """
    text = json.dumps(settings, sort_keys=True, default=_words)  # (ASCII, so that odd file names can be hashed)
    return base / f"{name}-{hashlib.sha256(text.encode('ascii')).hexdigest()[:DIGITS]}"


def _words(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"settings hold {value!r}, which JSON does not know")
