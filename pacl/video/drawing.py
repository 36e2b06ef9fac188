"""Labels drawn on the frames of a video."""

from __future__ import annotations

import numpy as np

from pacl.results.legend import Entry, Legend, with_legend
from pacl.results.overlay import paint_labels
from pacl.results.palette import palette
from pacl.results.result import Result

MAX_ENTRIES = 24
"""Labels in the legend; of more, the largest in the frame."""
LONG_SIDE = 2000
"""Pixels; larger frames are scaled down to it."""


def draw_frame(image: np.ndarray, found: Result) -> np.ndarray:
    """A frame with its labels painted on it, and a legend that keeps its place and size from frame to frame.

    Args:
        image: RGB uint8 [H, W, 3].
        found: the labels of this or of an earlier frame.

    Returns:
        RGB uint8 [H', W', 3], of the same size for all frames of a video.
    """
    painted = paint_labels(image, found.index, long_side=min(max(image.shape[:2]), LONG_SIDE))
    return with_legend(painted, _legend(found))


def _legend(found: Result) -> Legend:
    """All labels in their own order, also those without pixels, with their shares of the pixels."""
    colours = palette(len(found.labels))
    entries = [
        Entry(label, share, tuple(map(int, colours[i])))
        for i, (label, share) in enumerate(zip(found.labels, found.shares, strict=True), start=1)
    ]
    if len(entries) > MAX_ENTRIES:
        entries = sorted(entries, key=lambda entry: -(entry.share or 0))[:MAX_ENTRIES]
    if found.background != "none":
        entries.append(Entry("background", 1 - sum(found.shares), None))
    return Legend(entries)
