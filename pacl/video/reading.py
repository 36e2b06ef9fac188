"""Frames of a video file, decoded one after the other by OpenCV with FFmpeg."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from pacl.errors import UserError
from pacl.image_folders import IMAGE_SUFFIXES
from pacl.opencv import quiet
from pacl.video.edit_list import shown_seconds

ASSUMED_FPS = 25.0
"""Frames per second of a file that does not say how many it has."""

T = TypeVar("T")


@dataclass(frozen=True)
class Video:
    """A video file that can be read.

    Attributes:
        path: of the file.
        fps: frames per second; the mean where the rate varies.
        size: height and width of the upright frames.
        count: number of frames that are shown, as the file states it; None where it does not. For some containers it
            is an estimate.
    """

    path: Path
    fps: float
    size: tuple[int, int]
    count: int | None

    def is_cut_off(self, frames: int, seconds: float) -> bool:
        """Whether decoded frames are fewer than the file promises, and end earlier; its estimates may be off by 5 %.

        Args:
            frames: number of those that were decoded.
            seconds: from the first one to the end of the last. Where the frame rate varies, the promised number may be
                the duration times the highest rate.
        """
        if self.count is None:
            return False
        promised = 0.95 * self.count - 2
        return frames < promised and seconds < promised / self.fps


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        number: counts all frames of the video from 0.
        time: seconds since the first frame.
        image: RGB uint8 [H, W, 3].
    """

    number: int
    time: float
    image: np.ndarray


def open_video(path: str | Path) -> Video:
    """Open a video file and decode its first frame.

    Raises:
        UserError: the file is missing, empty, not a video, or none of its frames can be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
    if path.suffix.lower() in IMAGE_SUFFIXES - {".gif"}:  # OpenCV would read it as a video of one frame
        raise UserError(f"{path} is an image, not a video")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes)")
    with _capture(path) as capture:
        readable, first = capture.read()
        if not readable:
            raise UserError(f"{path} has no frames that can be decoded: {_advice(path)}")
        fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps = fps if 0 < fps <= 1000 else ASSUMED_FPS
    stated = int(count) if math.isfinite(count) and 0 < count < 2**53 else None
    if stated is not None and (shown := shown_seconds(path)) is not None:
        stated = min(stated, max(1, round(shown * fps)))
    return Video(path, fps, first.shape[:2], stated)


def read_frames(video: Video, every: int = 1) -> Iterator[Frame]:
    """The frames of a video, in order, as a player shows them: turned as the file's orientation says.

    Args:
        video: see `open_video`. A frame of another size than the first is resized to it.
        every: only frames whose number is a multiple of it are converted to images.

    Yields:
        Frames. Times are those of the file, so that they are right where the frame rate varies; where the file has
        none, or they do not increase or are not finite, frames are ``1 / fps`` apart.
    """
    height, width = video.size
    with _capture(video.path) as capture:
        number, start, time = 0, 0.0, 0.0
        while capture.grab():
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number == 0:
                start = stamp if math.isfinite(stamp) else 0.0
            else:
                time = stamp - start if time < stamp - start < math.inf else time + 1 / video.fps
            if number % every == 0:
                readable, image = capture.retrieve()
                if readable:
                    if image.shape[:2] != video.size:
                        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                    yield Frame(number, time, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1


def read_ahead(items: Iterator[T], count: int = 4) -> Iterator[T]:
    """The same items; a thread prepares up to ``count`` of them ahead."""
    with ThreadPoolExecutor(1) as reader:
        try:
            waiting = deque(reader.submit(next, items, None) for _ in range(count))
            while (item := waiting.popleft().result()) is not None:
                waiting.append(reader.submit(next, items, None))
                yield item
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
            close = getattr(items, "close", None)
            if close:
                close()  # what a generator holds open


@contextmanager
def _capture(path: Path) -> Iterator[cv2.VideoCapture]:
    """An opened file, which is released at the end."""
    if cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends():
        raise UserError(f"{path} cannot be read: this OpenCV has no FFmpeg; pip install opencv-python-headless")
    with quiet():
        try:
            # An absolute path, because FFmpeg would take "a:b.mp4" for a protocol.
            capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        except (cv2.error, UnicodeError) as error:  # names that are not UTF-8
            raise UserError(f"{path} cannot be read: rename it to plain letters") from error
        try:
            if not capture.isOpened():
                raise UserError(f"{path} is not a video that can be read, or is cut off: {_advice(path)}")
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
            yield capture
        finally:
            capture.release()


def _advice(path: Path) -> str:
    return f"save or download it again, or try ffmpeg -i {path} new.mp4"
