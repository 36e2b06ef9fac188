"""Image files that viewers show and Pillow refuses: much text in a PNG, a JPEG without its end."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import UnidentifiedImageError

from pacl.image_decoding import open_header

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_NO_PIXELS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of PNG with text or a colour profile
MISSING_ROWS = 0.05
"""The part of a JPEG's rows that may be missing, beyond one row of its blocks (16 pixels)."""


@dataclass(frozen=True)
class Repaired:
    """The content of an image file that Pillow can read.

    Attributes:
        content: of the file.
        complaint: what the image lacks, to follow its name; empty if nothing.
    """

    content: bytes
    complaint: str = ""


def repaired(content: bytes, error: Exception) -> Repaired | None:
    """Repair an image file.

    Args:
        content: of the file.
        error: why Pillow cannot read it.

    Returns:
        The repaired file, or None if too much is missing or nothing is known to help.
    """
    if content.startswith(_PNG) and any(
        word in str(error).lower() for word in ("max_text", "too large", "too much memory")
    ):
        return Repaired(_without_text(content))
    if content.startswith(_JPEG) and "truncated" in str(error):
        return _with_end(content)
    return None


def _without_text(content: bytes) -> bytes:
    """A PNG without text and colour profile, which Pillow reads up to a size only."""
    kept, start = [content[: len(_PNG)]], len(_PNG)
    while start + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[start : start + 8])
        stop = start + 12 + length
        if kind not in _NO_PIXELS:
            kept.append(content[start:stop])
        start = stop
    return b"".join(kept)


def _with_end(content: bytes) -> Repaired | None:
    """A JPEG with an end mark, if almost all of its rows are there.

    Where its data end is seen by decoding it with further data of two kinds: the images differ from there on.
    """
    with open_header(io.BytesIO(content)) as image:
        progressive = "progressive" in image.info
    try:
        first, second = (_decode(content + more + _JPEG_END) for more in (b"", bytes(len(content) + 1024)))
    except (OSError, SyntaxError, UnidentifiedImageError):
        return None
    height = len(first)
    differ = np.flatnonzero((first != second).any(axis=(1, 2)))
    missing = height - int(differ[0]) if len(differ) else 0
    if missing > max(16, MISSING_ROWS * height) + 1 or (progressive and missing):  # its later passes are missing, too
        return None
    lost = f"the last rows ({missing} of {height}) are not all there" if missing else "a few pixels may be missing"
    return Repaired(content + _JPEG_END, f"lacks its end: {lost}")


def _decode(content: bytes) -> np.ndarray:
    with open_header(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
