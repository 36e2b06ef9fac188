"""Data for the pretraining of a CLIP on procedural scenes."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from pacl.data.batches import pair_texts
from pacl.errors import ArgumentError
from pacl.scenes.data import SceneData
from pacl.scenes.drawing import Image, Scene, SceneDataset, similar_scenes

Pair = tuple[Image, str]


class SceneBlocks(Dataset[list[Pair]]):
    """Blocks of `similar_scenes`, as lists of (image, caption).

    Scenes are rendered once and then kept in memory; their captions are new each time.

    Args:
        blocks: number of blocks.
        count: scenes per block.
        size: side of the scenes in pixels.
        seed: random seed of scenes and captions.
    """

    def __init__(self, blocks: int, count: int, size: int, seed: int = 0) -> None:
        self.blocks, self.count, self.size, self.seed = blocks, count, size, seed
        self._kept: dict[int, list[Scene]] = {}
        self._rng = Random(seed)

    def __len__(self) -> int:
        return self.blocks

    def __getitem__(self, index: int) -> list[Pair]:
        scenes = self._kept.get(index)
        if scenes is None:
            scenes = self._kept[index] = similar_scenes(index, self.count, size=self.size, seed=self.seed)
        return [(scene.image, scene.describe(self._rng)[0]) for scene in scenes]


def collate_blocks(blocks: list[list[Pair]]) -> dict[str, Any]:
    """Make a batch of blocks: {"images": uint8 [B, 3, H, W], "texts": T captions, "positives": bool [B, T]}."""
    pairs = [pair for block in blocks for pair in block]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    texts, positives = pair_texts([[(text, ())] for _, text in pairs])
    return {"images": images, "texts": texts, "positives": positives}


def collate_scenes(scenes: list[Scene]) -> dict[str, Any]:
    """Make a batch of scenes and their captions, with the keys of `collate_blocks`."""
    return collate_blocks([[(scene.image, scene.caption) for scene in scenes]])


class ScenePretrainingData(L.LightningDataModule):
    """Procedural scenes for the pretraining of a CLIP, and for its validation.

    Args:
        n_train: number of training scenes, which are kept in memory (16 kB each at 64 pixels).
        n_val: number of validation scenes, which are not grouped into blocks.
        size: side of the scenes in pixels.
        batch_size: pairs per batch of one process, a multiple of ``block``.
        block: number of similar training scenes per block, see `similar_scenes`.
        seed: random seed.
    """

    vocabulary, contrast = SceneData.vocabulary, SceneData.contrast

    def __init__(
        self,
        n_train: int = 120_000,
        n_val: int = 1_000,
        size: int = 64,
        batch_size: int = 192,
        block: int = 24,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.block, self.seed = batch_size, block, seed
        self.train = SceneBlocks(n_train // max(1, block), block, size, seed)
        self.val = SceneDataset("val", n_val, size, seed)

    def train_dataloader(self) -> DataLoader[list[Pair]]:
        # Checked here, since the command line would wrap an error of the constructor into one of its own.
        if self.block < 1 or self.batch_size % self.block:
            raise ArgumentError("batch_size", self.batch_size, f"must be a multiple of block, {self.block}")
        if self.batch_size > len(self.train) * self.block:
            raise ArgumentError("batch_size", self.batch_size, "must be at most n_train")
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.train,
            self.batch_size // self.block,
            shuffle=True,
            drop_last=True,
            collate_fn=collate_blocks,
            generator=order,
        )

    def val_dataloader(self) -> DataLoader[Scene]:
        return DataLoader(self.val, self.batch_size, collate_fn=collate_scenes)  # type: ignore[arg-type]
