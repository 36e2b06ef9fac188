"""Scenes as image-text batches, for whatever trains on `{"images", "texts"}`."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from pacl.data.scene_captions import PUNCTUATION, VOCABULARY
from pacl.data.scenes import Scene, SceneDataset

Pair = tuple[NDArray[np.uint8], str]


class ScenePairs(Dataset[Pair]):
    """(picture, caption) pairs; a picture is drawn when first asked for and then kept.

    Args:
        scenes: The scenes.
        recaption: Describe a scene in new words every time (training); False: its own caption (tests).
        seed: Of the new words.
    """

    def __init__(self, scenes: SceneDataset, recaption: bool = False, seed: int = 0) -> None:
        self.scenes, self.recaption = scenes, recaption
        self._kept: dict[int, Scene] = {}
        self._rng = Random(seed)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Pair:
        scene = self._kept.get(index)
        if scene is None:
            scene = self._kept[index] = self.scenes[index]
        return scene.image, scene.describe(self._rng)[0] if self.recaption else scene.caption


def collate_pairs(pairs: list[Pair]) -> dict[str, Any]:
    """Pairs -> {"images": uint8 [B, 3, H, W], "texts": B captions}."""
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    return {"images": images, "texts": [text for _, text in pairs]}


class SceneData(L.LightningDataModule):
    """Procedural scenes for training and validation.

    Args:
        n_train: Training scenes; drawn during the first epoch and kept in memory (27 kB each at 96 pixels).
        n_val: Validation scenes, of seen combinations.
        size: Side in pixels.
        batch_size: Pairs in a batch.
        seed: Which world of scenes.
    """

    vocabulary: tuple[str, ...] = (*VOCABULARY, *PUNCTUATION)
    """All words and signs of all captions."""

    def __init__(
        self, n_train: int = 60_000, n_val: int = 1_000, size: int = 96, batch_size: int = 256, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        self.train = ScenePairs(SceneDataset("train", n_train, size, seed), recaption=True, seed=seed)
        self.val = ScenePairs(SceneDataset("val", n_val, size, seed))

    def train_dataloader(self) -> DataLoader[Pair]:
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.train, self.batch_size, shuffle=True, drop_last=True, collate_fn=collate_pairs, generator=order
        )

    def val_dataloader(self) -> DataLoader[Pair]:
        return DataLoader(self.val, self.batch_size, collate_fn=collate_pairs)
