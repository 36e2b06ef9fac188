"""Labels of patches: majority labels, patch-classification accuracy, and the upper bound of one label a patch.

The PACL paper (https://arxiv.org/abs/2212.04994) evaluates patch classification, before any upsampling: the majority
label of each patch against its most similar class. The upper bound is the score of the best map in which all pixels of
a patch have the same class.

Shapes: T windows, N prompts, C classes, H W pixels, h w the patch grid, k labels that occur.
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
    """The most frequent label under each patch of a window.

    The labels are sampled (nearest, pixel centres) at the size that the tower saw. Ignored pixels and the padding
    beyond the image count as label `IGNORED`. Ties go to the smaller label; `IGNORED` is the smallest.

    Args:
        target: int32 [H, W], classes 0..C-1 or `IGNORED`.
        resized: H', W' of the resized image that the windows are taken from.
        grid: the patch grid of the window, of any stride.
        corner: first pixel (y, x) of the window in the resized image.

    Returns:
        int32 [h, w].
    """
    y, x = (
        _nearest(start, extent, side, labels)
        for start, extent, side, labels in zip(corner, grid.extent, resized, target.shape, strict=True)
    )
    labels = np.full(grid.extent, IGNORED, np.int32)  # of the window, padded beyond the image
    labels[: len(y), : len(x)] = target[np.ix_(y, x)]
    names, index = _numbered(labels)
    patches = np.lib.stride_tricks.sliding_window_view(index, (grid.patch, grid.patch))
    patches = patches[:: grid.stride, :: grid.stride].reshape(grid.patches, -1)  # [h w, patch^2]
    votes = _votes(np.arange(grid.patches)[:, None], patches, grid.patches, len(names))
    return names[votes.argmax(axis=1)].reshape(grid.h, grid.w)


def majorities(maps: PatchMaps, target: np.ndarray) -> np.ndarray:
    """The `majority` label of every patch of every window of an image: int32 [T, h, w]."""
    return np.stack([majority(target, maps.layout.resized, maps.grid, corner) for corner in maps.layout.corners])


def patch_counts(maps: PatchMaps, ids: Sequence[int], true: np.ndarray) -> np.ndarray:
    """Count patches whose most similar prompt belongs to their majority label.

    The argmax of the similarities, without threshold or softmax. The patches of all windows count, also where windows
    overlap.

    Args:
        maps: similarities with the prompts, values [T, N, h, w].
        ids: the class 0..C-1 of each of the N prompts.
        true: int32 [T, h, w], the `majorities`.

    Returns:
        int64 [2]: correct patches, and scored patches (those whose majority label is a class).
    """
    if maps.values.shape[1] != len(ids):
        raise ValueError(f"values {tuple(maps.values.shape)}, {len(ids)} ids")
    named = np.asarray(ids)[maps.values.argmax(dim=1).cpu().numpy()]  # [T, h, w]
    counted = true != IGNORED
    return np.array([(counted & (named == true)).sum(), counted.sum()], np.int64)


def upper_bound(target: np.ndarray, layout: WindowLayout, patch: int, classes: int) -> np.ndarray:
    """Areas of the best map in which every patch of the resized image has one label.

    Patches tile the resized image from its first pixel; the last ones are truncated at its edge. Each takes the most
    frequent label of its scored pixels (ties: the smaller) at the original size of the labels: no map with one label a
    patch has more correct pixels. Methods that interpolate between patches or use overlapping windows can exceed it.

    Args:
        target: int32 [H, W], classes 0..C-1 or `IGNORED`.
        layout: of the image; only its ``resized`` is used.
        patch: side of a patch, in resized pixels.
        classes: C.

    Returns:
        int64 [3, C]; `pacl.metrics.segmentation.scores` of the sum over the images gives the bound.
    """
    return count_areas(best_of_patches(target, layout, patch), target, classes)


def best_of_patches(target: np.ndarray, layout: WindowLayout, patch: int) -> np.ndarray:
    """The map of `upper_bound`: int32 [H, W]; `IGNORED` where all pixels of a patch are."""
    # Patch that holds a pixel's centre, in integers: (2 y + 1) / 2 * H' / H, divided by the patch size.
    rows, columns = (
        (2 * np.arange(side) + 1) * resized // (2 * side * patch)
        for side, resized in zip(target.shape, layout.resized, strict=True)
    )
    cell = rows[:, None] * (columns[-1] + 1) + columns  # [H, W]
    names, index = _numbered(target)
    votes = _votes(cell, index, int(cell[-1, -1]) + 1, len(names))
    if names[0] == IGNORED:
        votes[:, 0] = np.minimum(votes[:, 0], votes[:, 1:].sum(axis=1) == 0)  # chosen only if there is no other label
    return names[votes.argmax(axis=1)][cell]


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, int32 [k] in ascending order, and each pixel's index in them."""
    shifted = labels - IGNORED  # from 0
    occurring = np.flatnonzero(np.bincount(shifted.ravel()))
    place = np.zeros(occurring[-1] + 1, np.int64)
    place[occurring] = np.arange(len(occurring))
    return (occurring + IGNORED).astype(np.int32), place[shifted]


def _votes(cells: np.ndarray, labels: np.ndarray, count: int, names: int) -> np.ndarray:
    """How often each label occurs in each cell: int64 [count, names]."""
    return np.bincount((cells * names + labels).ravel(), minlength=count * names).reshape(count, names)


def _nearest(start: int, extent: int, side: int, labels: int) -> np.ndarray:
    """The label pixel at the centre of each resized pixel, from `start` to the end of the window or image."""
    pixels = np.arange(start, min(start + extent, side))
    return (2 * pixels + 1) * labels // (2 * side)
