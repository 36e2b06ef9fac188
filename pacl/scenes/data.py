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
    """Procedural scenes as a `PairSource`: images with several captions each.

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
        return self._render(index).image

    def descriptions(self, index: int) -> list[Description]:
        if index not in self._described:
            self._render(index)
        return self._described[index]

    def _render(self, index: int) -> Scene:
        """Render a scene and store its captions."""
        scene, rng = self.scenes[index], Random(index)
        self._described[index] = [scene.describe(rng) for _ in range(self.captions)]
        return scene


class SceneData(CaptionData):
    """Training data of procedural scenes with their captions (see `pacl.scenes.drawing`).

    Args:
        scenes: number of training scenes.
        size: side of the scenes in pixels; null is the model's native size.
        seed: random seed of the scenes.
        batch_size: images per step, over all processes.
        nouns: add the names in each caption as further texts (the augmentation of the paper).
        templates: sentence templates for these names: none, photo, paper, imagenet or a file.
        cache: where frozen tokens are cached, as in `CaptionData`: "memory", a folder or null.
        captions: captions per scene; each step uses a random one.
        workers: processes that render scenes; 0 renders them in the training process.
    """

    vocabulary = (*VOCABULARY, *PUNCTUATION)
    contrast = (*OBJECT_NAMES, *GROUNDS)  # all names: a single prompt competes with them
    same = (*CaptionData.same, "captions")

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
            cut=SquareCrop("squash"),  # no effect: scenes are squares of this size
            nouns=nouns,
            templates=templates,
            cache=cache,
            workers=workers,
        )
        self.scenes, self.captions, self.scene_seed = scenes, captions, seed

    def summary(self) -> list[str]:
        return [f"{self.scenes:,} procedural scenes (seed {self.scene_seed})"]

    def extent(self) -> str:
        return f"training on {self.scenes:,} procedural scenes"

    def read(self) -> tuple[list[PairSource], list[PairSource]]:
        if self.captions < 1:
            raise ArgumentError("captions", self.captions, "must be at least 1")
        scenes = SceneDataset("train", self.scenes, size=self.image_size(), seed=self.scene_seed)
        return [SceneSource(scenes, self.captions)], []
