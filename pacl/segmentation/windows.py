"""Where windows lie on a picture, in whole pixels: pure geometry, no tensors.

A picture of H x W is resized to H' x W' and shown to the tower in windows. Without windows there is one, the whole
resized picture. Every rounding happens here, and each of it only changes the resized size or a window's corner,
never the mapping between pixels and patches: that stays exact through `Layout.scale`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

MAX_ASPECT = 8
"""Long side over short side up to which a picture is resized by its short side. Beyond (a strip, a picture one pixel
wide) the long side decides, so that the tokens a picture costs are bounded whatever its shape."""


@dataclass(frozen=True)
class Layout:
    """How one picture is shown to the tower. Sizes and corners are (y, x), in pixels."""

    size: tuple[int, int]
    """H, W of the picture itself."""
    resized: tuple[int, int]
    """H', W': what the windows are cut from."""
    window: tuple[int, int]
    """Height and width of each window."""
    ys: tuple[int, ...]
    """First resized row of every row of windows."""
    xs: tuple[int, ...]
    """First resized column of every column of windows."""

    @property
    def corners(self) -> list[tuple[int, int]]:
        """First pixel (y, x) of every window, row by row."""
        return [(y, x) for y in self.ys for x in self.xs]

    @property
    def scale(self) -> tuple[float, float]:
        """Resized pixels per picture pixel, (y, x)."""
        return self.resized[0] / self.size[0], self.resized[1] / self.size[1]

    def whole(self) -> Layout:
        """The same picture in a single window."""
        return replace(self, window=self.resized, ys=(0,), xs=(0,))


def snap(side: float, patch: int, stride: int) -> int:
    """The size nearest to `side` that patches cover without a rest: ``patch + n * stride`` pixels, n >= 0."""
    return patch + max(0, math.floor((side - patch) / stride + 0.5)) * stride


def resized_size(size: tuple[int, int], short: int, smallest: int = 1) -> tuple[int, int]:
    """Resize a picture by its short side, up or down, as the benchmarks' protocols do.

    Args:
        size: H, W of the picture.
        short: Pixels wanted for the short side.
        smallest: No side gets smaller than this (a patch); only pictures beyond `MAX_ASPECT` meet it, and only
            they lose their proportions.
    """
    factor = min(short / min(size), MAX_ASPECT * short / max(size))
    height, width = (max(smallest, math.floor(side * factor + 0.5)) for side in size)
    return height, width


def window_starts(side: int, window: int, step: int) -> tuple[int, ...]:
    """First pixel of each window along one side; the last one is shifted inwards to end with the picture."""
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
) -> Layout:
    """Decide the resized size and the windows of one picture.

    Args:
        size: H, W of the picture.
        short: Short side after resizing.
        patch, stride: Of the tower, in resized pixels.
        window: Side of the square windows; None shows the whole picture. A side of the picture that is shorter
            than the window shortens the window.
        step: From one window to the next; None is half a window.
        aligned: Windows start on multiples of the stride, so that the patches of all windows lie on one global
            grid. The resized size and the step are rounded for it, by half a stride at most.

    Sides that a single window covers are rounded to whole patches, by half a stride at most: no pixel goes unseen.
    """
    resized: list[int] = []
    crops: list[int] = []
    starts: list[tuple[int, ...]] = []
    for side in resized_size(size, short, patch):
        crop = math.inf if window is None else snap(window, patch, stride)
        if crop >= side or aligned:
            side = snap(side, patch, stride)
        crop = int(min(crop, side))
        hop = min(step or max(1, crop // 2), crop)
        if aligned:  # at most as many strides as a window has patches: each patch of the global grid is in a window
            hop = min(max(1, math.floor(hop / stride + 0.5)), (crop - patch) // stride + 1) * stride
        resized.append(side)
        crops.append(crop)
        starts.append(window_starts(side, crop, hop))
    return Layout(size, (resized[0], resized[1]), (crops[0], crops[1]), starts[0], starts[1])
