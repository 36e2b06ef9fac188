"""What can be written of a video, and the defaults of its settings; nothing here imports torch."""

from __future__ import annotations

import math
from numbers import Real

from pacl.errors import ArgumentError
from pacl.results.formats import FORMATS

VIDEO_FORMATS = {
    "overlay": "the video with its labels drawn on it and a legend, NAME.overlay.mp4",
    "mask": "a palette PNG of label ids for each segmented frame, NAME.masks/FRAME.mask.png",
    "rle": FORMATS["rle"].help.replace(".json", ".jsonl"),
    "polygons": FORMATS["polygons"].help.replace(".json", ".jsonl"),
}
"""What can be written of a video, beside the records of its frames in NAME.jsonl, which always are."""
DEFAULT_VIDEO_FORMATS = ("overlay",)

DEFAULT_SMOOTH = 0.2
"""Seconds, see `pacl.video.smoothing.Smoother`."""


def check_smooth(smooth: float) -> float:
    """A time constant in seconds, see `pacl.video.smoothing.Smoother`.

    Raises:
        ArgumentError: ``smooth`` is negative, not finite or no number.
    """
    if isinstance(smooth, Real) and 0 <= smooth < math.inf:
        return float(smooth)
    raise ArgumentError("smooth", smooth, "must be a number of seconds, 0 or more; 0 is off")
