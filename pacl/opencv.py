"""OpenCV without lines of its own on standard error."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_SILENT = 0  # LOG_LEVEL_SILENT, which not all versions name
_lock = threading.Lock()
_users, _before = 0, 0


@contextmanager
def quiet() -> Iterator[None]:
    """OpenCV and FFmpeg print nothing of their own: what is wrong is an error or a warning here.

    The level is one for the process, so that of several threads the last restores it.
    """
    global _users, _before
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when FFmpeg is first used
    logs = getattr(cv2.utils, "logging", cv2)  # before OpenCV 4.13 the functions are in cv2 itself
    with _lock:
        if _users == 0:
            _before = logs.getLogLevel()
            logs.setLogLevel(_SILENT)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                logs.setLogLevel(_before)
