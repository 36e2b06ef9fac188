"""Lists of pictures in a text file: the splits of Flickr8k, of Pascal VOC and others."""

from __future__ import annotations

from pathlib import Path

from pacl.errors import UserError


def read_list(path: str | Path) -> list[str]:
    """The lines of a text file that hold something, each once.

    Raises:
        UserError: It cannot be read, or is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path} cannot be read ({reason}): it should list pictures, one a line") from None
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise UserError(f"{path} is empty: it lists pictures, one a line")
    return names
