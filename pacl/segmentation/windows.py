"""Where sliding windows lie on an image, in whole pixels: pure geometry, no tensors.

An image of H x W is resized to H' x W' and passes the tower in windows; without windows there is one, the whole
resized image. All rounding happens here. It changes the resized size or a window's corner, never the mapping between
pixels and patches, which is exact: H' / H resized rows per image row, W' / W columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

MAX_ASPECT = 8
"""Long side over short side up to which an image is resized by its short side. Beyond (a strip, an image one pixel
wide) the long side decides, so that the number of tokens is bounded for any shape."""


@dataclass(frozen=True)
class WindowLayout:
    """The resized size and the windows of one image. Sizes and corners are (y, x), in pixels."""

    size: tuple[int, int]
    """H, W of the image itself."""
    resized: tuple[int, int]
    """H', W': what the windows are cropped from."""
    window: tuple[int, int]
    """Height and width of each window."""
    ys: tuple[int, ...]
    """First resized row of every row of windows."""
    xs: tuple[int, ...]
    """First resized column of every column of windows."""
    two_steps: bool = False
    """Whether a single window is upsampled to the resized image first, and then to the image; several always are."""

    @property
    def corners(self) -> list[tuple[int, int]]:
        """First pixel (y, x) of every window, row by row."""
        return [(y, x) for y in self.ys for x in self.xs]

    def whole(self) -> WindowLayout:
        """The same image in a single window."""
        return replace(self, window=self.resized, ys=(0,), xs=(0,))


def snap(side: float, patch: int, stride: int) -> int:
    """The size nearest to `side` that patches cover exactly: ``patch + n * stride`` pixels, n >= 0."""
    return patch + max(0, math.floor((side - patch) / stride + 0.5)) * stride


def resized_size(size: tuple[int, int], short: int, smallest: int = 1) -> tuple[int, int]:
    """The size of an image resized by its short side, up or down, as the benchmarks' protocols do.

    Args:
        size: H, W of the image.
        short: pixels wanted for the short side.
        smallest: lower bound of both sides (a patch); only images beyond `MAX_ASPECT` reach it, and only they lose
            their proportions.
    """
    factor = min(short / min(size), MAX_ASPECT * short / max(size))
    height, width = (max(smallest, math.floor(side * factor + 0.5)) for side in size)
    return height, width


def window_starts(side: int, window: int, step: int) -> tuple[int, ...]:
    """First pixel of each window along one side; the last one is shifted inwards to end with the image."""
    count = max(0, math.ceil((side - window) / step)) + 1
    return tuple(min(i * step, side - window) for i in range(count))


def plan_layout(
    size: tuple[int, int],
    short: int,
    *,
    patch: int,
    stride: int,
    window: int | None = None,
    step: int | None = None,
    aligned: bool = False,
    cut: bool = False,
    two_steps: bool = False,
) -> WindowLayout:
    """Decide the resized size and the windows of one image.

    Args:
        size: H, W of the image.
        short: short side after resizing.
        patch, stride: of the tower, in resized pixels.
        window: side of the square windows; None is one window for the whole image. Where a side of the image is
            shorter than the window, so is the window.
        step: from one window to the next; None is half a window.
        aligned: windows start on multiples of the stride, so that the patches of all windows lie on one global
            grid. The resized size and the step are rounded for it, by half a stride at most.
        cut: where a single window covers a side, that window has as many whole patches as fit and the rest of the
            resized side is not seen. Not with ``aligned``.
        two_steps: see `WindowLayout`.

    Unless ``cut``, sides that a single window covers are rounded to whole patches, by half a stride at most: no pixel
    goes unseen.
    """
    resized: list[int] = []
    crops: list[int] = []
    starts: list[tuple[int, ...]] = []
    for side in resized_size(size, short, patch):
        crop = math.inf if window is None else snap(window, patch, stride)
        single = crop >= side
        if (single and not cut) or aligned:
            side = snap(side, patch, stride)
        crop = int(min(crop, side))
        if single and cut:
            crop = patch + (side - patch) // stride * stride
        hop = min(step or max(1, crop // 2), crop)
        if aligned:  # at most as many strides as a window has patches: each patch of the global grid is in a window
            hop = min(max(1, math.floor(hop / stride + 0.5)), (crop - patch) // stride + 1) * stride
        resized.append(side)
        crops.append(crop)
        starts.append((0,) if single and cut else window_starts(side, crop, hop))
    return WindowLayout(size, (resized[0], resized[1]), (crops[0], crops[1]), starts[0], starts[1], two_steps)
