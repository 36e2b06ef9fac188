"""Small clips that tests draw and write."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pacl.opencv import quiet
from pacl.scenes.drawing import scene


def moving_scene(frames: int, size: tuple[int, int] = (48, 64), noise: float = 0.0) -> list[np.ndarray]:
    """Frames RGB uint8 [H, W, 3] of a window that moves over a drawn scene, with noise that changes."""
    height, width = size
    image = cv2.resize(np.asarray(scene("test", 0).image), (2 * width, 2 * height))
    rng = np.random.default_rng(0)
    found = []
    for i in range(frames):
        x, y = i * width // max(1, frames), i * height // max(1, frames)
        window = image[y : y + height, x : x + width].astype(np.float32)
        found.append(np.clip(window + noise * rng.standard_normal(window.shape), 0, 255).astype(np.uint8))
    return found


def write_clip(path: Path, frames: Sequence[np.ndarray], fps: float = 10.0, fourcc: str = "mp4v") -> Path:
    """Write RGB frames; an odd last row or column is lost, as OpenCV has it."""
    height, width = frames[0].shape[:2]
    with quiet():
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*fourcc), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def read_clip(path: Path) -> tuple[list[np.ndarray], float]:
    """The frames of a file, RGB, and its frame rate."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened()
    found = []
    while (read := capture.read())[0]:
        found.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return found, capture.get(cv2.CAP_PROP_FPS)


def rotate_clip(path: Path) -> None:
    """Make a player turn an MP4 file by 90 degrees: the matrix of its track header, as phones write it."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    one, w = 1 << 16, 1 << 30
    assert struct.unpack(">9i", content[start : start + 36]) == (one, 0, 0, 0, one, 0, 0, 0, w)
    content[start : start + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, w)
    path.write_bytes(content)


def trim_clip(path: Path, first: int, frames: int, fps: float = 10.0) -> None:
    """Make a player show only some frames of an MP4 file: its edit list, as a trim without encoding writes it."""
    content = bytearray(path.read_bytes())
    movie = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]
    media = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    start = content.index(b"elst") + 4
    assert struct.unpack_from(">2I", content, start) == (0, 1)
    struct.pack_into(">Ii", content, start + 8, round(frames / fps * movie), round(first / fps * media))
    path.write_bytes(content)


def stretch_clip(path: Path, long: int, factor: int) -> None:
    """Give the first ``long`` frames of an MP4 file ``factor`` times their duration: a variable frame rate.

    The table of durations (stts) gets a second entry, and the boxes around it the size of that.
    """
    content = bytearray(path.read_bytes())
    start = content.index(b"stts") - 4
    entries, count, delta = struct.unpack(">3I", content[start + 12 : start + 24])
    assert entries == 1
    content[start + 12 : start + 24] = struct.pack(">5I", 2, long, delta * factor, count - long, delta)
    for name in (b"stts", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = content.index(name) - 4
        content[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] + 8)
    content = content.replace(b"edts", b"free")  # the edit list ends where the frames ended before
    assert content.index(b"mdat") < content.index(b"moov")  # the frames keep their places
    path.write_bytes(content)
