"""Captioned pictures -> contrastive batches: images or frozen tokens, texts, and which pairs are right.

Shapes: B images, T texts, P patches, W token width, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Protocol

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pacl.data.scenes import SceneDataset
from pacl.errors import UserError
from pacl.prompts import fill, get_templates

TOKEN_BATCH = 64  # images that pass the frozen tower at once when tokens are kept


class Captioned(Protocol):
    """A picture that can be described: what a caption source yields."""

    @property
    def image(self) -> np.ndarray:
        """uint8 [H, W, 3], RGB."""

    def describe(self, rng: Random) -> tuple[str, Sequence[str]]:
        """One of its captions, and the noun phrases that this caption names ("a red star"; may be none)."""


class CaptionSource(Protocol):
    """Captioned pictures by number: any map-style data set."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Captioned: ...


Description = tuple[str, Sequence[str]]  # a caption and its noun phrases


def pair_texts(
    captions: Sequence[str],
    phrases: Sequence[Sequence[str]],
    templates: Sequence[str] = ("{}",),
    rng: Random | None = None,
) -> tuple[list[str], Tensor]:
    """The texts of a batch and its right pairs: the captions, and ALONGSIDE them the phrases that they name.

    Equal texts are merged. Every phrase becomes one text, in a template drawn for this batch, and is right for
    exactly the images whose own caption names it.

    Args:
        captions: one an image (B of them).
        phrases: the noun phrases of each caption; empty lists leave the captions alone.
        templates: sentence templates with one ``{}``.
        rng: chooses the templates; None takes the first one.

    Returns:
        T unique texts, captions first, and the right pairs, bool [B, T].
    """
    column: dict[str, int] = {}
    right: list[tuple[int, int]] = []
    for image, caption in enumerate(captions):
        right.append((image, column.setdefault(caption, len(column))))
    wrapped = {
        phrase: fill(rng.choice(templates) if rng else templates[0], phrase)
        for phrase in dict.fromkeys(phrase for own in phrases for phrase in own)
    }
    for image, own in enumerate(phrases):
        right += [(image, column.setdefault(wrapped[phrase], len(column))) for phrase in own]
    positives = torch.zeros(len(captions), len(column), dtype=torch.bool)
    positives[tuple(zip(*right, strict=True))] = True
    return list(column), positives


def stack_images(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 pictures [H, W, 3] of one size -> [B, 3, H, W]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


@dataclass
class KeptTokens(Dataset[Any]):
    """Frozen tokens of a whole data set in memory, with its texts: the towers never see a picture twice.

    Attributes:
        tokens: float16 [n, P, W].
        descriptions: n lists of captions with their noun phrases; one of them is drawn each time.
    """

    tokens: Tensor
    descriptions: list[list[Description]]

    @classmethod
    def of(cls, samples: CaptionSource, frozen_tokens: Callable[[Tensor], Tensor], captions: int) -> KeptTokens:
        """Pass every picture through ``frozen_tokens``, uint8 [B, 3, H, W] -> [B, P, W], once."""
        kept: list[Tensor] = []
        descriptions: list[list[Description]] = []
        for start in track(
            range(0, len(samples), TOKEN_BATCH), "frozen tokens", console=Console(stderr=True), transient=True
        ):
            batch = [samples[i] for i in range(start, min(start + TOKEN_BATCH, len(samples)))]
            kept.append(frozen_tokens(stack_images([sample.image for sample in batch])).half().cpu())
            for i, sample in enumerate(batch, start):
                rng = Random(i)
                descriptions.append([sample.describe(rng) for _ in range(captions)])
        return cls(torch.cat(kept), descriptions)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        """A batch in one gather; torch's fetcher prefers this to one call an item."""
        return {"tokens": self.tokens[indices], "descriptions": [self.descriptions[i] for i in indices]}


class CaptionData(LightningDataModule, ABC):
    """Batches of captioned pictures; subclasses say where these come from.

    Args:
        batch_size: B, images a step.
        nouns: put each caption's noun phrases beside the captions as further texts (the paper's augmentation).
        templates: templates that these phrases are put into: none, photo, paper, imagenet or a file.
        keep_tokens: compute the frozen tokens of all pictures once and keep them in memory (2 P W bytes each).
        captions: with kept tokens, captions that are kept of each picture; one of them is drawn each time.
        workers: processes that load pictures; 0 loads them in the training process.
    """

    def __init__(
        self,
        batch_size: int = 256,
        nouns: bool = False,
        templates: str = "paper",
        keep_tokens: bool = False,
        captions: int = 5,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.nouns, self.templates, self.workers = batch_size, nouns, templates, workers
        self.keep_tokens, self.captions = keep_tokens, captions
        self.kept: KeptTokens | None = None

    @abstractmethod
    def samples(self) -> CaptionSource:
        """The training pictures with their captions."""

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches as `pacl.training.PACLModule` takes them; an incomplete last one is left out."""
        # Settings are checked here: what a constructor raises, the command line buries in errors of its own.
        if self.batch_size < 2:
            raise UserError(f"--data.batch_size {self.batch_size}: a contrastive batch needs 2 images or more")
        if self.captions < 1:
            raise UserError(f"--data.captions {self.captions}: keep 1 or more")
        templates = get_templates(self.templates)
        samples = self.samples()
        if len(samples) < self.batch_size:
            raise UserError(
                f"--data.batch_size {self.batch_size}: larger than the training set of {len(samples)} pictures"
            )
        assert self.trainer is not None
        if self.keep_tokens and self.kept is None:
            module: Any = self.trainer.lightning_module
            self.kept = KeptTokens.of(
                samples, lambda images: module.frozen_tokens(images.to(module.device)), self.captions
            )
        return DataLoader(
            self.kept or samples,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=0 if self.kept else self.workers,
            collate_fn=partial(self.collate, templates=templates),
        )

    def collate(self, batch: dict[str, Any] | Sequence[Captioned], templates: Sequence[str]) -> dict[str, Any]:
        """Samples, or a batch of kept tokens -> images or tokens, texts and right pairs."""
        rng = Random(int(torch.randint(2**31, ())))  # follows torch's seed, in worker processes too
        if isinstance(batch, dict):
            vision = {"tokens": batch["tokens"]}
            described = [rng.choice(descriptions) for descriptions in batch["descriptions"]]
        else:
            vision = {"images": stack_images([sample.image for sample in batch])}
            described = [sample.describe(rng) for sample in batch]
        captions = [caption for caption, _ in described]
        phrases = [phrases if self.nouns else () for _, phrases in described]
        texts, positives = pair_texts(captions, phrases, templates, rng)
        return {**vision, "texts": texts, "positives": positives}


class SceneData(CaptionData):
    """The procedural scenes with their captions (`pacl.data.scenes`).

    Args:
        scenes: how many training scenes.
        size: their side in pixels; null takes the CLIP's own.
        seed: of the scenes; another seed is another world of scenes.
        batch_size: B, images a step.
        nouns: put each caption's noun phrases beside the captions as further texts (the paper's augmentation).
        templates: templates that these phrases are put into: none, photo, paper, imagenet or a file.
        keep_tokens: compute the frozen tokens of all pictures once and keep them in memory (2 P W bytes each).
        captions: with kept tokens, captions that are kept of each picture; one of them is drawn each time.
        workers: processes that draw scenes; 0 draws them in the training process.
    """

    def __init__(
        self,
        scenes: int = 10_000,
        size: int | None = None,
        seed: int = 0,
        batch_size: int = 256,
        nouns: bool = False,
        templates: str = "paper",
        keep_tokens: bool = True,
        captions: int = 5,
        workers: int = 0,
    ) -> None:
        super().__init__(batch_size, nouns, templates, keep_tokens, captions, workers)
        self.scenes, self.size, self.seed = scenes, size, seed

    def samples(self) -> CaptionSource:
        size = self.size
        if size is None:
            assert self.trainer is not None
            module: Any = self.trainer.lightning_module
            size = int(module.pacl.clip.size)
        return SceneDataset("train", self.scenes, size=size, seed=self.seed)
