"""Captioned pictures -> contrastive batches: images, texts, and which pairs are right.

Shapes: B images, T texts, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pacl.data.pairs import PairSource
from pacl.data.photos import Cut
from pacl.data.sampling import Draw, DrawSampler
from pacl.data.sources import Source
from pacl.data.texts import pair_texts
from pacl.errors import UserError
from pacl.prompts import fill, get_templates


class Batches(Dataset[Any]):
    """Draws -> batches; everything random follows (seed, epoch, slot), so any process makes the same one.

    Args:
        sources: what draws point into.
        size: side of the square pictures.
        cut: how they become square.
        seed: of cuts, captions and templates.
        nouns: put the captions' noun phrases beside the captions, in one of the templates.
        templates: those templates.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        size: int,
        cut: Cut,
        seed: int = 0,
        nouns: bool = False,
        templates: Sequence[str] = ("{}",),
    ) -> None:
        self.sources, self.size, self.cut, self.seed = sources, size, cut, seed
        self.nouns, self.templates = nouns, templates

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """The draw's pictures that can be read, as `pacl.training.PACLModule` takes them.

        ``"skipped"`` lists, for each of the others, what is wrong with it.
        """
        images: list[np.ndarray] = []
        captions: list[str] = []
        phrases: list[Sequence[str]] = []
        skipped: list[str] = []
        for slot, k, index in zip(draw.slots.tolist(), draw.sources.tolist(), draw.indices.tolist(), strict=True):
            source, rng = self.sources[k], Random(f"{self.seed}/{draw.epoch}/{slot}")
            try:
                described = source.descriptions(index)
                if not described:
                    raise UserError(f"{source.name(index)} has no caption")
                caption, nouns = rng.choice(described)
                images.append(self.cut.square(lambda side, s=source, i=index: s.image(i, side), self.size, rng))
            except UserError as error:
                skipped.append(str(error))
                continue
            captions.append(caption)
            phrases.append(nouns if self.nouns else ())
        texts, positives = pair_texts(captions, phrases, self._wrap(draw))
        return {"images": stack_images(images, self.size), "texts": texts, "positives": positives, "skipped": skipped}

    def _wrap(self, draw: Draw) -> Any:
        """The same template for a phrase wherever it comes up in this step, on every process."""
        return lambda phrase: fill(
            Random(f"{self.seed}/{draw.epoch}/{draw.step}/{phrase}").choice(self.templates), phrase
        )


def stack_images(images: Sequence[np.ndarray], size: int) -> Tensor:
    """Square uint8 pictures [H, W, 3] -> [B, 3, H, W]."""
    if not images:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


class CaptionData(LightningDataModule):
    """Pictures with captions from files.

    Args:
        train: the sources to train on.
        val: sources to validate on; they and what `hold_out` kept are the validation set.
        batch_size: images a step, over all processes.
        size: side in pixels of the square that pictures are cut to; null takes the CLIP's own.
        cut: how training pictures become square; validation takes their middle.
        nouns: put each caption's nouns beside the captions as further texts (the paper's augmentation).
        templates: templates that nouns are put into: none, photo, paper, imagenet or a file.
        seed: of the order of pictures, their cuts, captions and templates.
        workers: processes that read pictures; 0 reads them in the training process.
    """

    contrast: tuple[str, ...] | None = None
    """Prompts that a single prompt competes with: none are known of captions."""

    def __init__(
        self,
        train: list[Source],
        val: list[Source] = [],  # noqa: B006  (jsonargparse shows it; nothing writes to it)
        batch_size: int = 256,
        size: int | None = None,
        cut: Cut = Cut(),
        nouns: bool = False,
        templates: str = "paper",
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.size, self.cut = batch_size, size, cut
        self.nouns, self.templates, self.seed, self.workers = nouns, templates, seed, workers
        self._parts: tuple[list[PairSource], list[PairSource]] | None = None

    def parts(self) -> tuple[list[PairSource], list[PairSource]]:
        """Training and validation sources, read when first asked for."""
        if self._parts is None:
            splits = [source.split(source.read()) for source in self.train]
            val = [held for _, held in splits if len(held)] + [source.read() for source in self.val]
            self._parts = [kept for kept, _ in splits], val
        return self._parts

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that training captions hold three times or more."""
        words = Counter(
            word
            for source in self.parts()[0]
            for index in range(len(source))
            for caption, _ in source.descriptions(index)
            for word in caption.lower().split()
        )
        return tuple(sorted(word for word, count in words.items() if count >= 3))

    def image_size(self) -> int:
        """Side of the squares in pixels."""
        if self.size is not None:
            return self.size
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        return int(module.image_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches as the modules take them, in an order that a resumed run goes on with."""
        # Settings are checked here: what a constructor raises, the command line buries in errors of its own.
        if self.batch_size < 2:
            raise UserError(f"--data.batch_size {self.batch_size}: a contrastive batch needs 2 images or more")
        self.cut.check()
        sources, _ = self.parts()
        batches = Batches(
            sources, self.image_size(), self.cut, self.seed, self.nouns, get_templates(self.templates)
        )
        return self._loader(batches, [source.weight for source in self.train], shuffle=True)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        _, sources = self.parts()
        if not sources:
            return []
        return self._loader(Batches(sources, self.image_size(), Cut(), self.seed), [None] * len(sources), shuffle=False)

    def _loader(self, batches: Batches, weights: Sequence[float | None], shuffle: bool) -> DataLoader[Any]:
        trainer = self.trainer
        assert trainer is not None
        sampler = DrawSampler(
            [len(source) for source in batches.sources],
            weights,
            self.batch_size,
            self.seed,
            shuffle=shuffle,
            drop_last=shuffle,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )
        return DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_as_is,
        )


def _as_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch
