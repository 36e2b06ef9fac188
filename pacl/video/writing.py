"""Writing a video file: constant frame rate, one of the codecs that OpenCV has."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pacl.errors import UserError
from pacl.opencv import quiet
from pacl.printing import printable


class Codec(NamedTuple):
    """A codec as OpenCV names it, and the suffix of the files that hold it."""

    fourcc: str
    suffix: str


CODECS = (Codec("mp4v", ".mp4"), Codec("MJPG", ".avi"))
"""In the order in which they are tried. The wheels of OpenCV have both, and no encoder of H.264."""
MAX_GAP = 60.0
"""Seconds that a frame is repeated at most; a damaged time stamp may be days later."""
MAX_SLOTS = 10
"""Likewise, in frames, where the rate is so low that they take longer."""


def find_codec(folder: Path, size: tuple[int, int], fps: float) -> Codec:
    """The first of `CODECS` that can write frames of this size (height, width).

    Raises:
        UserError: no codec can, or the path is not UTF-8, with which OpenCV crashes.
    """
    if os.path.abspath(folder) != printable(os.path.abspath(folder)):
        reason = "the path is not UTF-8, and OpenCV writes no video there; choose another folder for results"
        raise UserError(f"{printable(folder)}: {reason}")
    for codec in CODECS:
        probe = folder / f".probe{codec.suffix}"
        try:
            with quiet():
                writer = _open(probe, codec, size, fps)
                opened = writer.isOpened()
                writer.release()
            if opened:
                return codec
        finally:
            probe.unlink(missing_ok=True)
    names = " or ".join(codec.fourcc for codec in CODECS)
    height, width = size
    raise UserError(f"{folder}: this OpenCV cannot write a video of {width} x {height} pixels with {names} there")


class VideoWriter:
    """Writes frames at a constant rate.

    Frames are written in the slots of that rate by their times: where the rate of the source varies, a frame is
    repeated until the next is due, and one that comes within the same slot is left out. So the file plays as long as
    its source, without gaps of more than `MAX_GAP` seconds, which are left out.

    Args:
        path: of the file, with the suffix of the codec.
        codec: see `find_codec`.
        size: height and width of the frames. Codecs need even ones: an odd last row or column is repeated.
        fps: frames per second.
        is_stopped: whether the rest of the repetitions of a frame is left out, because the command is to end.

    Attributes:
        left_out: seconds of the source's gaps that the file does not have.

    Raises:
        UserError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        codec: Codec,
        size: tuple[int, int],
        fps: float,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path, self.fps, self.size, self.written = path, fps, size, 0
        self.left_out = 0.0
        self._is_stopped = is_stopped
        self._last: np.ndarray | None = None
        with quiet():
            self._writer = _open(path, codec, size, fps)
        if not self._writer.isOpened():
            raise UserError(f"{path}: cannot be written")

    def write(self, image: np.ndarray, time: float) -> None:
        """Add a frame.

        Args:
            image: RGB uint8 [H, W, 3].
            time: seconds since the first frame.
        """
        odd = [(0, side % 2) for side in image.shape[:2]]
        frame = cv2.cvtColor(np.pad(image, (*odd, (0, 0)), mode="edge"), cv2.COLOR_RGB2BGR)
        slot = round((time - self.left_out) * self.fps)
        if slot - self.written > max(MAX_GAP * self.fps, MAX_SLOTS):
            self.left_out += (slot - self.written) / self.fps
            slot = self.written
        while self._last is not None and self.written < slot and not self._is_stopped():
            self._add(self._last)
        if self.written <= slot:
            self._add(frame)
        self._last = frame

    def _add(self, frame: np.ndarray) -> None:
        with quiet():
            self._writer.write(frame)
        self.written += 1

    def close(self) -> None:
        """Complete the file.

        Raises:
            OSError: it cannot be read again, because the disk is full, for example. (OpenCV does not say so itself.)
        """
        self.release()
        with quiet():
            check = cv2.VideoCapture(os.path.abspath(self.path), cv2.CAP_FFMPEG)
            found = check.get(cv2.CAP_PROP_FRAME_COUNT) if check.isOpened() else 0
            check.release()
        if found < self.written:
            raise OSError(errno.EIO, "the video is not complete; is the disk full?")

    def release(self) -> None:
        """Close the file without a check."""
        with quiet():
            self._writer.release()


def _open(path: Path, codec: Codec, size: tuple[int, int], fps: float) -> cv2.VideoWriter:
    height, width = (side + side % 2 for side in size)
    fourcc = cv2.VideoWriter.fourcc(*codec.fourcc)
    return cv2.VideoWriter(os.path.abspath(path), cv2.CAP_FFMPEG, fourcc, fps, (width, height))
