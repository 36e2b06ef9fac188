"""Which files are videos."""

from __future__ import annotations

import os
from pathlib import Path

from pacl.image_folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, VIDEO_SUFFIXES, starts_like_an_image

_SIGNATURES = (b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
"""How Matroska and WebM, MPEG, FLV and WMV files start."""


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its suffix, or by its first bytes where the suffix says nothing."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    return suffix not in IMAGE_SUFFIXES | UNREAD_SUFFIXES and _starts_like_a_video(Path(path))


def _starts_like_a_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    in_box = start[4:8] == b"ftyp" and not starts_like_an_image(start)
    return start.startswith(_SIGNATURES) or (start[:4], start[8:]) == (b"RIFF", b"AVI ") or in_box
