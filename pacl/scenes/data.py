"""The procedural scenes as a source of captioned pictures."""

from __future__ import annotations

from random import Random

import numpy as np

from pacl.data.caption_data import CaptionData
from pacl.data.pairs import Description, PairSource
from pacl.data.photos import Cut
from pacl.errors import UserError
from pacl.scenes.captions import GROUNDS, OBJECT_NAMES, PUNCTUATION, VOCABULARY
from pacl.scenes.drawing import Scene, SceneDataset


class ScenePairs:
    """Scenes, each with some of the captions that it can be given. A `PairSource`.

    Args:
        scenes: the scenes.
        captions: how many of each.
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
        """Drawing is what costs: the captions are kept by the way."""
        scene, rng = self.scenes[index], Random(index)
        self._described[index] = [scene.describe(rng) for _ in range(self.captions)]
        return scene


class SceneData(CaptionData):
    """The procedural scenes with their captions (`pacl.scenes.drawing`).

    Args:
        scenes: how many training scenes.
        size: their side in pixels; null takes the CLIP's own.
        seed: of the scenes; another seed is another world of scenes.
        batch_size: images a step, over all processes.
        nouns: put each caption's noun phrases beside the captions as further texts (the paper's augmentation).
        templates: templates that these phrases are put into: none, photo, paper, imagenet or a file.
        cache: as of `CaptionData`: "memory", a folder or null.
        captions: of each scene; one of them is drawn each time.
        workers: processes that draw scenes; 0 draws them in the training process.
    """

    vocabulary = (*VOCABULARY, *PUNCTUATION)
    contrast = (*OBJECT_NAMES, *GROUNDS)

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
            cut=Cut("squash"),  # scenes are drawn square, at that very size
            nouns=nouns,
            templates=templates,
            cache=cache,
            workers=workers,
        )
        self.scenes, self.captions, self.world = scenes, captions, seed

    def summary(self) -> list[str]:
        return [f"{self.scenes:,} procedural scenes (seed {self.world})"]

    def read(self) -> tuple[list[PairSource], list[PairSource]]:
        if self.captions < 1:
            raise UserError(f"--data.captions {self.captions}: 1 or more")
        scenes = SceneDataset("train", self.scenes, size=self.image_size(), seed=self.world)
        return [ScenePairs(scenes, self.captions)], []
