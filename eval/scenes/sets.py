"""Test sets of procedural scenes with exact masks, mIoU on them, and upper bounds for a patch grid.

Every pixel has a name as its label, an object ("a red star") or a ground ("grass"). Pixel counts are summed over all
scenes of a test set, then IoU is averaged over the names that occur in it, separately for objects and grounds.

Shapes: C names, N scenes (n in a chunk), K names in a scene, P patches, D embedding, H W pixels, h w the patch grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.data.batches import stack_images
from pacl.metrics.segmentation import count_areas, iou
from pacl.models.towers.grid import PatchGrid, upsample
from pacl.scenes.captions import GROUNDS, OBJECT_NAMES
from pacl.scenes.drawing import SceneDataset

NAMES: tuple[str, ...] = (*OBJECT_NAMES, *GROUNDS)
OBJECTS = range(len(OBJECT_NAMES))
COMPETITORS = ("own", "all")  # classes to choose from: the names in the scene, or all names
CHUNK = 50  # scenes whose full-size score maps of all names are in memory at the same time

Scores = dict[str, float]
"""mIoU in percent, with the keys "objects/own", "objects/all", "grounds/own" and "grounds/all"."""


@dataclass
class SceneSet:
    """Scenes with their labels. All labels are indices of `NAMES`.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: label of each pixel, uint8 [N, H, W].
        present: the names in each scene, int64 [N, K]; shorter rows are padded with their first name.
        uppermost: name of the object that was rendered last, which nothing covers, int64 [N].
    """

    images: Tensor
    labels: Tensor
    present: Tensor
    uppermost: Tensor

    @classmethod
    def render(cls, split: str, count: int, pairs: str, size: int, objects: int | None = None) -> SceneSet:
        """Render ``count`` scenes of ``size`` pixels; the other arguments are those of `SceneDataset`."""
        scenes = list(SceneDataset(split, count, size=size, pairs=pairs, n_objects=objects))
        ids = [torch.tensor([NAMES.index(name) for name in scene.names]) for scene in scenes]
        labels = [own[torch.from_numpy(scene.mask).long()] for own, scene in zip(ids, scenes, strict=True)]
        most = max(map(len, ids))
        present = torch.stack([torch.cat([own, own[:1].expand(most - len(own))]) for own in ids])
        images = stack_images([scene.image for scene in scenes], size)
        return cls(images, torch.stack(labels).to(torch.uint8), present, torch.stack([own[-1] for own in ids]))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """H and W of the scenes."""
        return self.labels.shape[-2], self.labels.shape[-1]


def score(predict: Callable[[slice, str], Tensor], scenes: SceneSet) -> Scores:
    """Score a segmentation.

    Args:
        predict: (chunk of the scenes, one of `COMPETITORS`) -> predicted labels, int64 [n, H, W].
        scenes: the test set.

    Returns:
        mIoU of objects and of grounds, for each of `COMPETITORS`.
    """
    result: Scores = {}
    for competitors in COMPETITORS:
        areas = np.zeros((3, len(NAMES)), np.int64)
        for start in range(0, len(scenes), CHUNK):
            chunk = slice(start, start + CHUNK)
            areas += count_areas(predict(chunk, competitors).numpy(), scenes.labels[chunk].numpy(), len(NAMES))
        occurring, ious = np.flatnonzero(areas[2]), iou(areas)
        for kind, names in (("objects", OBJECTS), ("grounds", range(len(OBJECTS), len(NAMES)))):
            result[f"{kind}/{competitors}"] = 100 * float(ious[[c for c in occurring if c in names]].mean())
    return result


def label_pixels(maps: Tensor, present: Tensor, grid: PatchGrid, size: tuple[int, int], competitors: str) -> Tensor:
    """Upsample patch scores and choose the best name for every pixel.

    Args:
        maps: patch scores of all names, [n, C, h, w].
        present: the names in each scene, int64 [n, K].
        grid: the patch grid.
        size: H and W.
        competitors: "own" to choose among the names in the scene, "all" to choose among all names.

    Returns:
        int64 [n, H, W].
    """
    if competitors == "all":
        return upsample(maps, grid, size).argmax(dim=1)
    own = maps.gather(1, present[..., None, None].expand(-1, -1, *maps.shape[-2:]))  # [n, K, h, w]
    return present.gather(1, upsample(own, grid, size).argmax(dim=1).flatten(1)).view(len(maps), *size)


def score_patches(patches: Tensor, texts: Tensor, scenes: SceneSet, grid: PatchGrid) -> Scores:
    """mIoU of segmenting by the dot products of patch vectors [N, P, D] with the embeddings of the names [C, D]."""

    def predict(chunk: slice, competitors: str) -> Tensor:
        maps = rearrange(patches[chunk] @ texts.T, "n (h w) c -> n c h w", h=grid.h)
        return label_pixels(maps, scenes.present[chunk], grid, scenes.size, competitors)

    return score(predict, scenes)


def label_shares(labels: Tensor, grid: PatchGrid) -> Tensor:
    """Share of the pixels of each patch that have each name, in [0, 1]: labels [n, H, W] -> float32 [n, C, h, w]."""
    one_hot = F.one_hot(labels.long(), len(NAMES)).float()
    return F.avg_pool2d(rearrange(one_hot, "n h w c -> n c h w"), grid.patch, grid.stride)


def bound_majority(scenes: SceneSet, grid: PatchGrid) -> Scores:
    """mIoU if every pixel gets the majority label of its patch, the bound for methods that do not interpolate.

    Methods that interpolate between patches can exceed it slightly.
    """

    def predict(chunk: slice, _: str) -> Tensor:
        majority = label_shares(scenes.labels[chunk], grid).argmax(dim=1)
        return majority.repeat_interleave(grid.patch, 1).repeat_interleave(grid.patch, 2)

    return score(predict, scenes)


def bound_shares(scenes: SceneSet, grid: PatchGrid) -> Scores:
    """mIoU if the patch scores are the true `label_shares`, upsampled as in all methods: the higher of both bounds."""

    def predict(chunk: slice, competitors: str) -> Tensor:
        shares = label_shares(scenes.labels[chunk], grid)
        return label_pixels(shares, scenes.present[chunk], grid, scenes.size, competitors)

    return score(predict, scenes)
