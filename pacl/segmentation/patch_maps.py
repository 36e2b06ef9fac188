"""A picture as values at its patches: encoded in windows, kept small, upsampled in bands of rows.

    picture [3,H,W] --resize--> [3,H',W'] --windows--> [T,3,h',w'] --encode_crops--> patch vectors [T,D,h,w]
    at several scales: each resampled to the finest patch grid, and averaged
    --times texts [N,D]--> cosines [T,N,h,w] --bands--> [N,rows,W], [N,rows,W], ...

Nothing here makes a full-size map of every prompt: 150 classes of a 24-megapixel photo would be 14 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from pacl.errors import UserError
from pacl.images import resize as resize_image
from pacl.models.grid import PatchGrid, upsample
from pacl.segmentation.settings import SegmenterSettings
from pacl.segmentation.windows import Layout, plan_layout

if TYPE_CHECKING:
    from pacl.models.model import PACL
from pacl.models.precision import tower_autocast

BAND_BYTES = 32 * 2**20
"""Size of one float32 [N, rows, W] band; a handful of them are alive at a time."""

GUIDE_SIDE = 512
"""Long side, in pixels, of the small picture kept for refinement; finer edges do not pay for the memory."""


@dataclass(frozen=True)
class PatchMaps:
    """Values at the patches of one picture's windows, and where those patches lie.

    `values` is [T, K, h, w], T windows: unit patch vectors (K = D) or, after `similarity`, cosines (K = N prompts).
    """

    values: Tensor
    grid: PatchGrid
    layout: Layout

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
        """The values [1, K, h, w] at the patch centres of other maps of the same picture. Both have one window."""
        scales = [own / other for own, other in zip(self.layout.resized, to.layout.resized, strict=True)]
        step = (to.grid.stride * scales[0], to.grid.stride * scales[1])
        # `upsample` takes the middle of each stride, a patch is centred in its own width.
        offset = [(to.grid.stride - to.grid.patch) / 2 * scale for scale in scales]
        return upsample(self.values, self.grid, (to.grid.h, to.grid.w), step, offset=(offset[0], offset[1]))

    def bands(self, size: tuple[int, int] | None = None) -> Iterator[tuple[int, int, Tensor]]:
        """The maps upsampled to `size` (default: the picture's own), a band of rows at a time.

        Several windows are combined as the published protocols do it: each is upsampled to its pixels of the resized
        picture, they are averaged where they overlap, and the average is resized. All of that is linear and works on
        rows and columns apart, so it is two matrices, and nothing of the resized picture's size is ever made.

        Yields:
            start, stop, and the float32 values [K, stop - start, W] of those rows, within `BAND_BYTES` or one row.
        """
        height, width = size or self.layout.size
        if self.grid == PatchGrid(height, width, patch=1, stride=1):  # already a value a pixel
            for start, stop in split_rows(height, 4 * self.values.shape[1] * width, BAND_BYTES):
                yield start, stop, self.values[0, :, start:stop]
            return
        down = self._weights(0, height).to(self.values.device)  # [H, ty * h]
        across = self._weights(1, width).to(self.values.device)  # [W, tx * w]
        maps = rearrange(self.values, "(ty tx) k h w -> k (ty h) (tx w)", tx=len(self.layout.xs))
        for start, stop in split_rows(height, 4 * len(maps) * width, BAND_BYTES):
            yield start, stop, (down[start:stop] @ maps) @ across.T

    def _weights(self, axis: int, pixels: int) -> Tensor:
        """What each output pixel along one axis takes from each patch of the windows along it: [pixels, t * n]."""
        n = (self.grid.h, self.grid.w)[axis]
        resized = self.layout.resized[axis]
        scale = (resized / pixels, 1.0)
        column = PatchGrid(n, 1, self.grid.patch, self.grid.stride)
        each = torch.eye(n)[:, :, None]  # [n, n, 1]: maps in which one patch is 1
        if len(self.values) == 1:
            return upsample(each, column, (pixels, 1), scale)[:, :, 0].T  # [pixels, n]
        window = self.layout.window[axis]
        starts = (self.layout.ys, self.layout.xs)[axis]
        in_window = upsample(each, column, (window, 1))[:, :, 0].T  # [window, n]
        total = each.new_zeros(resized, len(starts), n)
        count = each.new_zeros(resized, 1, 1)
        for t, start in enumerate(starts):
            total[start : start + window, t] = in_window
            count[start : start + window] += 1
        mean = rearrange(total / count, "y t n -> (t n) y 1")
        return upsample(mean, PatchGrid(resized, 1, patch=1, stride=1), (pixels, 1), scale)[:, :, 0].T


@dataclass(frozen=True)
class EncodedImage:
    """All that is kept of a picture between `set_image` and `predict`."""

    patches: PatchMaps
    """Patch vectors [T, D, h, w], float32."""
    guide: Tensor | None
    """float [3, h, w] in [0, 1], long side at most `GUIDE_SIDE`: what refinement follows; None when it is off."""


def encode_images(
    models: Sequence[PACL], images: Sequence[np.ndarray | Tensor], settings: SegmenterSettings
) -> list[list[EncodedImage]]:
    """Pictures of any sizes -> patch vectors. Windows of equal size go through the tower together.

    Args:
        models: One, or several heads on the same CLIP, whose blocks before the last are computed once for all of
            them. Pictures are moved to its device, window by window.
        images: Each uint8 [H, W, 3] as an array, or [3, H, W] as a tensor (uint8, or float in [0, 1]); RGB.
        settings: Those of size, scales, windows, stride and interpolation, window_batch, precision and refine are
            read. Without size or scales they are those of the first model's configuration.

    Returns:
        For each model, its patches of each picture.

    Raises:
        UserError: The model's own scales are several, and windows are to be averaged by pixels.
    """
    config = models[0].config
    pictures = [as_tensor(image) for image in images]  # [3, H, W] each
    size = settings.size or config.size
    scales = settings.scales or config.scales
    if len(scales) > 1 and settings.accumulate != "patch":
        own = ",".join(f"{scale:g}" for scale in scales)
        raise UserError(
            f"--accumulate {settings.accumulate}: the model's own scales {own} are averaged on one patch grid; "
            "use patch, or --scales 1"
        )
    by_scale = [encode_scale(models, pictures, round(size * scale), settings) for scale in sorted(scales)]
    guides = [shrink(picture, GUIDE_SIDE) if settings.refine else None for picture in pictures]
    return [
        [EncodedImage(mean_of(maps), guide) for maps, guide in zip(zip(*own, strict=True), guides, strict=True)]
        for own in zip(*by_scale, strict=True)
    ]


def mean_of(scales: Sequence[PatchMaps]) -> PatchMaps:
    """The mean of maps of one picture at several scales, on the patch grid of the last.

    Cosines are linear in the patch vectors: averaging these averages the cosines with every text to come.
    """
    *others, finest = scales
    if not others:
        return finest
    return replace(finest, values=sum((maps.resampled(finest) for maps in others), finest.values) / len(scales))


def encode_scale(
    models: Sequence[PACL], pictures: Sequence[Tensor], size: int, settings: SegmenterSettings
) -> list[list[PatchMaps]]:
    """Pictures [3, H, W] -> for each model, patch vectors [T, D, h, w] of each picture at a short side of ``size``."""
    first = models[0]
    layouts = [
        plan_layout(
            (picture.shape[1], picture.shape[2]),
            size,
            patch=first.clip.patch,
            stride=settings.stride or first.clip.patch,
            window=settings.window,
            step=settings.window_step,
            aligned=settings.accumulate == "patch",
        )
        for picture in pictures
    ]
    how = settings.interpolation
    grids: dict[tuple[int, int], PatchGrid] = {}
    vectors: list[list[list[Tensor]]] = [[[] for _ in pictures] for _ in models]
    for window in dict.fromkeys(layout.window for layout in layouts):
        members = [i for i, layout in enumerate(layouts) if layout.window == window]
        windows = ((i, crop) for i in members for crop in cut(pictures[i], layouts[i], how))
        while batch := list(islice(windows, settings.window_batch)):
            crops = torch.stack([crop for _, crop in batch]).to(first.device)  # [B, 3, h', w']
            by_model, grid = encode_crops(models, first.clip.normalize(crops), settings)  # [B, P, D] each
            grids[window] = grid
            for own, v in zip(vectors, by_model, strict=True):
                for (i, _), vector in zip(batch, rearrange(v, "b (h w) d -> b d h w", h=grid.h), strict=True):
                    own[i].append(vector)
    encoded = []
    for own in vectors:
        maps = [
            PatchMaps(torch.stack(parts), grids[layout.window], layout)  # [T, D, h, w]
            for layout, parts in zip(layouts, own, strict=True)
        ]
        encoded.append([m.merged() for m in maps] if settings.accumulate == "patch" else maps)
    return encoded


def encode_crops(models: Sequence[PACL], crops: Tensor, settings: SegmenterSettings) -> tuple[list[Tensor], PatchGrid]:
    """Normalised crops [B, 3, h', w'] -> unit patch vectors [B, P, D] of each model, float32, and their grid."""
    clip = models[0].clip
    with tower_autocast(settings.precision, clip):
        tokens, grid = clip.patch_tokens_of(crops, [model.config.dense for model in models], settings.stride)
    return [model.patch_vectors(part.float()) for model, part in zip(models, tokens, strict=True)], grid


def cut(picture: Tensor, layout: Layout, interpolation: str = "bicubic") -> Iterator[Tensor]:
    """The windows [3, h', w'] of a picture [3, H, W], float32 in [0, 1]."""
    resized = resize(picture, layout.resized, interpolation)  # [3, H', W']
    height, width = layout.window
    return (resized[:, y : y + height, x : x + width] for y, x in layout.corners)


def as_tensor(image: np.ndarray | Tensor) -> Tensor:
    """uint8 [H, W, 3] array, or [3, H, W] tensor of uint8 or of float in [0, 1] -> the tensor, not copied."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image array is uint8 [H, W, 3] in RGB, not {image.dtype} {image.shape}")
        image = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)  # [3, H, W]
    if image.ndim != 3 or image.shape[0] != 3 or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise ValueError(f"an image tensor is uint8 or float [3, H, W], not {image.dtype} {tuple(image.shape)}")
    if 0 in image.shape:
        raise ValueError(f"an image has no pixels: {tuple(image.shape)}")
    return image


def resize(image: Tensor, size: tuple[int, int], interpolation: str = "bicubic") -> Tensor:
    """[3, H, W], uint8 or float in [0, 1] -> float32 [3, *size] in [0, 1]; 8 bits stay so until they are small."""
    small = resize_image(image, size, interpolation)
    return small.float() / 255 if image.dtype == torch.uint8 else small.float()


def shrink(image: Tensor, side: int) -> Tensor:
    """[3, H, W] -> float32 [3, h, w] in [0, 1], of the same proportions, with a long side of at most `side`."""
    height, width = image.shape[1:]
    factor = min(1.0, side / max(height, width))
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def split_rows(height: int, row_bytes: int, budget: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of rows that cover `height` in order, each within the budget or one row."""
    step = max(1, budget // row_bytes)
    return ((start, min(start + step, height)) for start in range(0, height, step))
