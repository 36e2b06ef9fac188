"""Sets of drawn scenes with exact masks, segmentation scores on them, and upper bounds of the patch grid.

The label of a pixel is an object ("a red star") or a ground ("grass"). Pixels are summed over all scenes of a set; IoU
is averaged over the names that occur in it, separately for objects and grounds.

Shapes: C names, N scenes (n of a chunk), K names of a scene, P patches, D embedding, H W pixels, h w the patch grid.
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
COMPETITORS = ("own", "all")  # classes of a scene's pixels: its own names, or all names
CHUNK = 50  # scenes whose full-size maps of all names are in memory at the same time

Scores = dict[str, float]
"""mIoU in percent by "objects/own", "objects/all", "grounds/own", "grounds/all"."""


@dataclass
class SceneSet:
    """Scenes with labels.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: uint8 [N, H, W], indices of `NAMES`.
        present: int64 [N, K], indices of the names of each scene, padded by repeating the first.
        uppermost: int64 [N], index of the uppermost object's name.
    """

    images: Tensor
    labels: Tensor
    present: Tensor
    uppermost: Tensor

    @classmethod
    def draw(cls, split: str, count: int, pairs: str, size: int, objects: int | None = None) -> SceneSet:
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
        """H and W."""
        return self.labels.shape[-2], self.labels.shape[-1]


def score(predict: Callable[[slice, str], Tensor], scenes: SceneSet) -> Scores:
    """Scores of ``predict(some scenes, competitors)`` -> labels [n, H, W]."""
    result: Scores = {}
    for competitors in COMPETITORS:
        areas = np.zeros((3, len(NAMES)), np.int64)
        for start in range(0, len(scenes), CHUNK):
            some = slice(start, start + CHUNK)
            areas += count_areas(predict(some, competitors).numpy(), scenes.labels[some].numpy(), len(NAMES))
        occurring, ious = np.flatnonzero(areas[2]), iou(areas)
        for kind, names in (("objects", OBJECTS), ("grounds", range(len(OBJECTS), len(NAMES)))):
            result[f"{kind}/{competitors}"] = 100 * float(ious[[c for c in occurring if c in names]].mean())
    return result


def label_pixels(maps: Tensor, present: Tensor, grid: PatchGrid, size: tuple[int, int], competitors: str) -> Tensor:
    """Patch scores of all names [n, C, h, w] -> the name with the highest score at every pixel, [n, H, W]."""
    if competitors == "all":
        return upsample(maps, grid, size).argmax(dim=1)
    own = maps.gather(1, present[..., None, None].expand(-1, -1, *maps.shape[-2:]))  # [n, K, h, w]
    return present.gather(1, upsample(own, grid, size).argmax(dim=1).flatten(1)).view(len(maps), *size)


def score_patches(patches: Tensor, texts: Tensor, scenes: SceneSet, grid: PatchGrid) -> Scores:
    """Segment by the similarities of unit patch vectors [N, P, D] with the names' embeddings [C, D]."""

    def predict(some: slice, competitors: str) -> Tensor:
        maps = rearrange(patches[some] @ texts.T, "n (h w) c -> n c h w", h=grid.h)
        return label_pixels(maps, scenes.present[some], grid, scenes.size, competitors)

    return score(predict, scenes)


def label_shares(labels: Tensor, grid: PatchGrid) -> Tensor:
    """Share of each name among the pixels of each patch: [n, H, W] -> [n, C, h, w]."""
    one_hot = F.one_hot(labels.long(), len(NAMES)).float()
    return F.avg_pool2d(rearrange(one_hot, "n h w c -> n c h w"), grid.patch, grid.stride)


def bound_majority(scenes: SceneSet, grid: PatchGrid) -> Scores:
    """Scores of each patch's majority label for all its pixels. Methods that interpolate can exceed them slightly."""

    def predict(some: slice, _: str) -> Tensor:
        majority = label_shares(scenes.labels[some], grid).argmax(dim=1)
        return majority.repeat_interleave(grid.patch, 1).repeat_interleave(grid.patch, 2)

    return score(predict, scenes)


def bound_shares(scenes: SceneSet, grid: PatchGrid) -> Scores:
    """Scores of each patch's label shares, upsampled like the scores of all methods: the higher bound."""

    def predict(some: slice, competitors: str) -> Tensor:
        shares = label_shares(scenes.labels[some], grid)
        return label_pixels(shares, scenes.present[some], grid, scenes.size, competitors)

    return score(predict, scenes)
