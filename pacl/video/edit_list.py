"""Edit lists of MP4 and MOV files, as a trim without encoding writes them: players show only a part of the frames.

Boxes and their layout: ISO/IEC 14496-12, 4.2 (boxes), 8.2.2 (mvhd), 8.4.3 (hdlr), 8.6.6 (elst).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LARGEST = 256 << 20
"""Bytes of a moov box that is read: that of hours of video has a few."""


def shown_seconds(path: Path) -> float | None:
    """How long players show the pictures of a file; None without an edit list, and for files of other kinds."""
    try:
        with path.open("rb") as file:
            movie = _movie(file)
        return None if movie is None else _shown(movie)
    except (OSError, struct.error):  # damaged: what can be decoded of it decides
        return None


def _movie(file: BinaryIO) -> bytes | None:
    """The content of the moov box."""
    at, end = 0, file.seek(0, os.SEEK_END)
    while at + 8 <= end:
        file.seek(at)
        size, kind, header = _header(file.read(16), end - at)
        if kind == b"moov":
            file.seek(at + header)
            return file.read(size - header) if size <= LARGEST else None
        if size < header:
            return None
        at += size
    return None


def _header(start: bytes, left: int) -> tuple[int, bytes, int]:
    """Size and kind of a box, and the size of its header, from its first bytes; ``left`` bytes follow at most."""
    size, kind = struct.unpack_from(">I4s", start)
    if size == 1:
        return struct.unpack_from(">Q", start, 8)[0], kind, 16
    return size or left, kind, 8


def _boxes(content: bytes, *path: bytes) -> Iterator[bytes]:
    """The contents of all boxes at a path such as ``edts``, ``elst``."""
    at = 0
    while path and at + 8 <= len(content):
        size, kind, header = _header(content[at : at + 16], len(content) - at)
        if size < header:
            return
        inner = content[at + header : at + size]
        if kind == path[0]:
            yield from _boxes(inner, *path[1:]) if path[1:] else [inner]
        at += size


def _shown(movie: bytes) -> float | None:
    head = next(_boxes(movie, b"mvhd"), b"")
    (scale,) = struct.unpack_from(">I", head, 20 if head[:1] == b"\1" else 12)
    for track in _boxes(movie, b"trak"):
        kinds = [handler[8:12] for handler in _boxes(track, b"mdia", b"hdlr")]
        edits = next(_boxes(track, b"edts", b"elst"), None)
        if kinds == [b"vide"] and edits is not None:
            entry = struct.Struct(">QqI" if edits[:1] == b"\1" else ">IiI")  # duration, start in the media, rate
            (count,) = struct.unpack_from(">I", edits, 4)
            listed = edits[8 : 8 + min(count, len(edits)) * entry.size]
            entries = list(entry.iter_unpack(listed[: len(listed) // entry.size * entry.size]))
            durations = [duration for duration, start, _ in entries if start >= 0]  # -1: nothing is shown meanwhile
            return sum(durations) / scale if scale and durations and all(durations) else None  # 0: to the end
    return None
