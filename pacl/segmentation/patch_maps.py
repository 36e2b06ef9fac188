"""Values at the patches of one image: kept small, combined over windows and scales, upsampled in bands of rows.

    patch vectors [T,D,h,w] --times texts [N,D]--> cosines [T,N,h,w] --bands--> [N,rows,W], [N,rows,W], ...

Nothing here makes a full-size map of every prompt: 150 classes of a 24-megapixel image would be 14 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from pacl.models.towers.grid import PatchGrid, resample_patches, upsample
from pacl.segmentation.windows import WindowLayout

BAND_BYTES = 32 * 2**20
"""Size of one float32 [N, rows, W] band; a few of them are alive at a time."""


@dataclass(frozen=True)
class PatchMaps:
    """Values at the patches of one image's windows, and where those patches lie.

    `values` is [T, K, h, w], T windows: unit patch vectors (K = D) or, after `similarity`, cosines (K = N prompts).
    """

    values: Tensor
    grid: PatchGrid
    layout: WindowLayout

    def similarity(self, texts: Tensor) -> PatchMaps:
        """Cosines with the unit text vectors [N, D]: the same patches, with values [T, N, h, w]."""
        return replace(self, values=torch.einsum("tdhw,nd->tnhw", self.values, texts))

    def merged(self) -> PatchMaps:
        """All windows on one patch grid, averaged where they overlap: T becomes 1. Needs an aligned layout.

        Cosines are linear in the patch vectors, so averaging the vectors once (which makes them shorter than 1)
        averages the cosines with every text to come.
        """
        if len(self.values) == 1:
            return self
        grid = PatchGrid.cover(*self.layout.resized, self.grid.patch, self.grid.stride)
        total = self.values.new_zeros(self.values.shape[1], grid.h, grid.w)  # [K, H/stride, W/stride]
        count = self.values.new_zeros(grid.h, grid.w)
        for value, (y, x) in zip(self.values, self.layout.corners, strict=True):
            i, j = y // grid.stride, x // grid.stride
            total[:, i : i + self.grid.h, j : j + self.grid.w] += value
            count[i : i + self.grid.h, j : j + self.grid.w] += 1
        return PatchMaps((total / count)[None], grid, self.layout.whole())

    def resampled(self, to: PatchMaps) -> Tensor:
        """The values [1, K, h, w] at the patch centres of other maps of the same image. Both have one window."""
        down, across = (own / other for own, other in zip(self.layout.resized, to.layout.resized, strict=True))
        return resample_patches(self.values, self.grid, to.grid, (down, across))

    def spans(self, size: tuple[int, int] | None = None) -> list[tuple[int, int]]:
        """The ranges [start, stop) of the rows of each of `bands`."""
        height, width = size or self.layout.size
        return list(split_rows(height, 4 * self.values.shape[1] * width, BAND_BYTES))

    def bands(
        self, size: tuple[int, int] | None = None, spans: Sequence[tuple[int, int]] | None = None
    ) -> Iterator[tuple[int, int, Tensor]]:
        """The maps upsampled to `size` (default: the image's own), a band of rows at a time.

        Several windows are combined as the published protocols do it: each is upsampled to its pixels of the resized
        image, they are averaged where they overlap, and the average is resized. All of this is linear and separable in
        rows and columns, so it is two matrix products, and nothing of the resized image's size is ever made.

        Args:
            size: height and width.
            spans: other ranges of rows than those of `spans`, such as those of maps that are read beside these.

        Yields:
            start, stop, and the float32 values [K, stop - start, W] of those rows, within `BAND_BYTES` or one row.
        """
        height, width = size or self.layout.size
        spans = self.spans(size) if spans is None else spans
        if self.grid == PatchGrid(height, width, patch=1, stride=1):  # already one value for each pixel
            for start, stop in spans:
                yield start, stop, self.values[0, :, start:stop]
            return
        down, across = self.weights((height, width))
        maps = self.joined()
        for start, stop in spans:
            yield start, stop, (down[start:stop] @ maps) @ across.T

    def joined(self) -> Tensor:
        """The windows beside and below each other: [K, ty * h, tx * w]."""
        return rearrange(self.values, "(ty tx) k h w -> k (ty h) (tx w)", tx=len(self.layout.xs))

    def weights(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Weights of the rows of `joined` in each row of pixels, [H, ty * h], and of its columns, [W, tx * w].

        They are at least 0, and those of a pixel sum to 1.
        """
        down, across = (self._weights(axis, pixels).to(self.values.device) for axis, pixels in enumerate(size))
        return down, across

    def _weights(self, axis: int, pixels: int) -> Tensor:
        """Weight of each patch of the windows along one axis in each output pixel: [pixels, t * n]."""
        n = (self.grid.h, self.grid.w)[axis]
        resized, window = self.layout.resized[axis], self.layout.window[axis]
        starts = (self.layout.ys, self.layout.xs)[axis]
        column = PatchGrid(n, 1, self.grid.patch, self.grid.stride)
        each = torch.eye(n)[:, :, None]  # [n, n, 1]: maps in which one patch is 1
        if len(self.values) == 1 and not self.layout.two_steps:
            return upsample(each, column, (pixels, 1), (window / pixels, 1.0))[:, :, 0].T  # [pixels, n]
        seen = window
        if len(starts) == 1:  # a single window stands for the whole side, also where its rest was cut off
            window = resized
        in_window = upsample(each, column, (window, 1), (seen / window, 1.0))[:, :, 0].T  # [window, n]
        total = each.new_zeros(resized, len(starts), n)
        count = each.new_zeros(resized, 1, 1)
        for t, start in enumerate(starts):
            total[start : start + window, t] = in_window
            count[start : start + window] += 1
        mean = rearrange(total / count, "y t n -> (t n) y 1")
        pixel = PatchGrid(resized, 1, patch=1, stride=1)
        return upsample(mean, pixel, (pixels, 1), (resized / pixels, 1.0))[:, :, 0].T


def split_rows(height: int, row_bytes: int, budget: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of rows that cover `height` in order, each within the budget or one row."""
    step = max(1, budget // row_bytes)
    return ((start, min(start + step, height)) for start in range(0, height, step))


def mean_of(scales: Sequence[PatchMaps]) -> PatchMaps:
    """The mean of maps of one image at several scales, on the patch grid of the last.

    Cosines are linear in the patch vectors: averaging these averages the cosines with every text to come.
    """
    *others, finest = scales
    if not others:
        return finest
    return replace(finest, values=sum((maps.resampled(finest) for maps in others), finest.values) / len(scales))
