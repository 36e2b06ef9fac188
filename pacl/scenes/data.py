"""Training data of procedural scenes."""

from __future__ import annotations

from random import Random

import numpy as np

from pacl.data.caption_data import CaptionData
from pacl.data.crop import SquareCrop
from pacl.data.pairs import Description, PairSource
from pacl.errors import ArgumentError
from pacl.scenes.captions import GROUNDS, OBJECT_NAMES, PUNCTUATION, VOCABULARY
from pacl.scenes.drawing import Scene, SceneDataset


class SceneSource:
    """Scenes with several captions each, a `PairSource`.

    Args:
        scenes: the scenes.
        captions: number of captions per scene.
    """

    def __init__(self, scenes: SceneDataset, captions: int) -> None:
        self.scenes, self.captions = scenes, captions
        self._described: dict[int, list[Description]] = {}

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        return f"{self.scenes.split} scene {index}"

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        return self._draw(index).image

    def descriptions(self, index: int) -> list[Description]:
        if index not in self._described:
            self._draw(index)
        return self._described[index]

    def _draw(self, index: int) -> Scene:
        """Draw a scene and keep its captions."""
        scene, rng = self.scenes[index], Random(index)
        self._described[index] = [scene.describe(rng) for _ in range(self.captions)]
        return scene


class SceneData(CaptionData):
    """The procedural scenes with their captions (`pacl.scenes.drawing`).

    Args:
        scenes: number of training scenes.
        size: side of the scenes in pixels; null takes that of the model.
        seed: of the scenes.
        batch_size: images per step, over all processes.
        nouns: add the names in each caption as texts of their own (the augmentation of the paper).
        templates: sentence templates for these names: none, photo, paper, imagenet or a file.
        cache: where frozen tokens are kept, as in `CaptionData`: "memory", a folder or null.
        captions: captions per scene; each step uses a random one.
        workers: processes that draw scenes; 0 draws them in the training process.
    """

    vocabulary = (*VOCABULARY, *PUNCTUATION)
    contrast = (*OBJECT_NAMES, *GROUNDS)  # all names: a single prompt competes with them

    def __init__(
        self,
        scenes: int = 10_000,
        size: int | None = None,
        seed: int = 0,
        batch_size: int = 256,
        nouns: bool = False,
        templates: str = "paper",
        cache: str | None = "memory",
        captions: int = 5,
        workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            size=size,
            cut=SquareCrop("squash"),  # scenes are squares of that size already
            nouns=nouns,
            templates=templates,
            cache=cache,
            workers=workers,
        )
        self.scenes, self.captions, self.scene_seed = scenes, captions, seed

    def summary(self) -> list[str]:
        return [f"{self.scenes:,} procedural scenes (seed {self.scene_seed})"]

    def read(self) -> tuple[list[PairSource], list[PairSource]]:
        if self.captions < 1:
            raise ArgumentError("captions", self.captions, "must be at least 1")
        scenes = SceneDataset("train", self.scenes, size=self.image_size(), seed=self.scene_seed)
        return [SceneSource(scenes, self.captions)], []
