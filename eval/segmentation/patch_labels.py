"""Labels of patches: majority labels, accuracy of patch classification, and an upper bound for one label per patch.

The PACL paper (https://arxiv.org/abs/2212.04994) evaluates patch classification before any upsampling: the most
similar class of each patch is compared with the majority label of its pixels. The upper bound is the score of the best
label map in which all pixels of a patch have the same label.

Shapes: T windows, N prompts, C classes, H W pixels, h w the patch grid, k different labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pacl.data.masks import IGNORED
from pacl.metrics.segmentation import count_areas
from pacl.models.towers.grid import PatchGrid
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.windows import WindowLayout


def majority(
    target: np.ndarray, resized: tuple[int, int], grid: PatchGrid, corner: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The most frequent label in each patch of a window.

    Labels are resized with nearest-neighbour interpolation to the input size of the image tower. Ignored pixels and
    padding count as the label `IGNORED`. Of equally frequent labels the smallest is chosen; `IGNORED` is smaller than
    all classes.

    Args:
        target: int32 [H, W], classes 0..C-1 or `IGNORED`.
        resized: height and width of the resized image, from which windows are cropped.
        grid: patch grid of the window, with any stride.
        corner: upper left pixel (y, x) of the window in the resized image.

    Returns:
        int32 [h, w].
    """
    y, x = (
        _nearest(start, extent, side, labels)
        for start, extent, side, labels in zip(corner, grid.extent, resized, target.shape, strict=True)
    )
    labels = np.full(grid.extent, IGNORED, np.int32)  # labels of the window, including padding
    labels[: len(y), : len(x)] = target[np.ix_(y, x)]
    names, index = _numbered(labels)
    patches = np.lib.stride_tricks.sliding_window_view(index, (grid.patch, grid.patch))
    patches = patches[:: grid.stride, :: grid.stride].reshape(grid.patches, -1)  # [h w, patch^2]
    votes = _votes(np.arange(grid.patches)[:, None], patches, grid.patches, len(names))
    return names[votes.argmax(axis=1)].reshape(grid.h, grid.w)


def majorities(maps: PatchMaps, target: np.ndarray) -> np.ndarray:
    """`majority` labels of all patches in all windows of an image: int32 [T, h, w]."""
    return np.stack([majority(target, maps.layout.resized, maps.grid, corner) for corner in maps.layout.corners])


def patch_counts(
    maps: PatchMaps, ids: Sequence[int], true: np.ndarray, left_out: Sequence[int] = (IGNORED,)
) -> np.ndarray:
    """Count the patches whose class is correct, where the class of a patch is that of its most similar prompt.

    Patches of all windows are counted, so where windows overlap, a part of the image is counted several times.

    Args:
        maps: similarities of patches with prompts, values [T, N, h, w]; without prompts no patch is correct.
        ids: class of each prompt, N numbers in 0..C-1.
        true: result of `majorities`, int32 [T, h, w].
        left_out: labels whose patches are not counted, such as a background that a rule finds, not a prompt.

    Returns:
        int64 [2]: the number of correct patches, and of all that are counted.

    Raises:
        ValueError: the number of prompts differs between ``maps`` and ``ids``.
    """
    if maps.values.shape[1] != len(ids):
        raise ValueError(f"values {tuple(maps.values.shape)}, {len(ids)} ids")
    counted = ~np.isin(true, left_out)
    if not ids:
        return np.array([0, counted.sum()], np.int64)
    named = np.asarray(ids)[maps.values.argmax(dim=1).cpu().numpy()]  # [T, h, w]
    return np.array([(counted & (named == true)).sum(), counted.sum()], np.int64)


def upper_bound(target: np.ndarray, layout: WindowLayout, patch: int, classes: int) -> np.ndarray:
    """Areas of the best label map in which all pixels of a patch have the same label, see `best_of_patches`.

    Args:
        target: int32 [H, W], classes 0..C-1 or `IGNORED`.
        layout: windows of the image; only ``resized`` is used.
        patch: side of a patch in pixels of the resized image.
        classes: C.

    Returns:
        int64 [3, C]. The upper bound is `pacl.metrics.segmentation.scores` of their sum over all images.
    """
    return count_areas(best_of_patches(target, layout, patch), target, classes)


def best_of_patches(target: np.ndarray, layout: WindowLayout, patch: int) -> np.ndarray:
    """The label map with one label per patch that has the most correct pixels.

    Patches tile the resized image from its upper left corner; patches at the right and bottom may be truncated. Each
    patch gets the most frequent label of its scored pixels, counted at the original size of the labels; of equally
    frequent labels the smallest. Methods that interpolate between patches or use overlapping windows can exceed it.

    Args:
        target, layout, patch: as in `upper_bound`.

    Returns:
        int32 [H, W], `IGNORED` in patches without scored pixels.
    """
    # Index of the patch that contains the centre of pixel y: (y + 0.5) * resized / side / patch, in integers.
    rows, columns = (
        (2 * np.arange(side) + 1) * resized // (2 * side * patch)
        for side, resized in zip(target.shape, layout.resized, strict=True)
    )
    cell = rows[:, None] * (columns[-1] + 1) + columns  # [H, W]
    names, index = _numbered(target)
    votes = _votes(cell, index, int(cell[-1, -1]) + 1, len(names))
    if names[0] == IGNORED:
        votes[:, 0] = np.minimum(votes[:, 0], votes[:, 1:].sum(axis=1) == 0)  # only if there is no other label
    return names[votes.argmax(axis=1)][cell]


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different labels, int32 [k], and their index at each pixel: a faster ``np.unique`` with its inverse."""
    shifted = labels - IGNORED  # not negative
    occurring = np.flatnonzero(np.bincount(shifted.ravel()))
    place = np.zeros(occurring[-1] + 1, np.int64)
    place[occurring] = np.arange(len(occurring))
    return (occurring + IGNORED).astype(np.int32), place[shifted]


def _votes(cells: np.ndarray, labels: np.ndarray, count: int, names: int) -> np.ndarray:
    """How often each label occurs in each of ``count`` cells: int64 [count, names]."""
    return np.bincount((cells * names + labels).ravel(), minlength=count * names).reshape(count, names)


def _nearest(start: int, extent: int, side: int, labels: int) -> np.ndarray:
    """Indices of the label pixels at the centres of resized pixels, along one axis.

    Args:
        start: first resized pixel of the window.
        extent: length of the window in resized pixels; it may exceed the image.
        side: length of the resized image.
        labels: length of the label map.
    """
    pixels = np.arange(start, min(start + extent, side))
    return (2 * pixels + 1) * labels // (2 * side)
