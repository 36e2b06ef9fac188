"""Scenes as image-text batches for contrastive training from random weights."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from pacl.data.texts import pair_texts
from pacl.errors import UserError
from pacl.scenes.captions import GROUNDS, OBJECT_NAMES, PUNCTUATION, VOCABULARY
from pacl.scenes.drawing import Image, Scene, SceneDataset, alike_scenes

Pair = tuple[Image, str]


class SceneBlocks(Dataset[list[Pair]]):
    """Blocks of scenes that are alike (`alike_scenes`), each drawn when first asked for and then kept.

    A scene is described in new words every time.

    Args:
        blocks: How many.
        count: Scenes in a block.
        size: Side of a scene in pixels.
        seed: Which world of scenes, and of words.
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
            scenes = self._kept[index] = alike_scenes(index, self.count, size=self.size, seed=self.seed)
        return [(scene.image, scene.describe(self._rng)[0]) for scene in scenes]


def collate_blocks(blocks: list[list[Pair]]) -> dict[str, Any]:
    """Blocks of pairs -> {"images": uint8 [B, 3, H, W], "texts": T captions, "positives": bool [B, T]}."""
    pairs = [pair for block in blocks for pair in block]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    texts, positives = pair_texts([[(text, ())] for _, text in pairs])
    return {"images": images, "texts": texts, "positives": positives}


def collate_scenes(scenes: list[Scene]) -> dict[str, Any]:
    """Scenes with their own captions -> the same."""
    return collate_blocks([[(scene.image, scene.caption) for scene in scenes]])


class ScenePairData(L.LightningDataModule):
    """Procedural scenes for training and validation.

    Args:
        n_train: Training scenes; drawn when first needed and kept in memory (16 kB each at 64 pixels).
        n_val: Validation scenes, of seen combinations, drawn at random.
        size: Side in pixels.
        batch_size: Pairs in a batch; a multiple of `alike`.
        alike: Training scenes in a block that share colours or ground.
        seed: Which world of scenes.
    """

    vocabulary: tuple[str, ...] = (*VOCABULARY, *PUNCTUATION)
    """All words and signs of all captions."""
    contrast: tuple[str, ...] = (*OBJECT_NAMES, *GROUNDS)
    """All that there is: what a single prompt competes with."""

    def __init__(
        self,
        n_train: int = 120_000,
        n_val: int = 1_000,
        size: int = 64,
        batch_size: int = 192,
        alike: int = 24,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.alike, self.seed = batch_size, alike, seed
        self.train = SceneBlocks(n_train // max(1, alike), alike, size, seed)
        self.val = SceneDataset("val", n_val, size, seed)

    def train_dataloader(self) -> DataLoader[list[Pair]]:
        # Checked here: what a constructor raises, the command line buries in errors of its own.
        if self.alike < 1 or self.batch_size % self.alike:
            raise UserError(f"--data.batch_size {self.batch_size}: not a multiple of --data.alike {self.alike}")
        if self.batch_size > len(self.train) * self.alike:
            raise UserError(f"--data.batch_size {self.batch_size}: larger than the training set, --data.n_train")
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.train,
            self.batch_size // self.alike,
            shuffle=True,
            drop_last=True,
            collate_fn=collate_blocks,
            generator=order,
        )

    def val_dataloader(self) -> DataLoader[Scene]:
        return DataLoader(self.val, self.batch_size, collate_fn=collate_scenes)  # type: ignore[arg-type]
