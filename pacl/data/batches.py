"""Captioned pictures -> contrastive batches: images or frozen tokens, texts, and which pairs are right.

Shapes: B images, T texts, P patches, W token width, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pacl.data.pairs import Description, PairSource
from pacl.data.photos import Cut
from pacl.data.sampling import Draw
from pacl.data.texts import pair_texts
from pacl.data.token_store import TokenStore
from pacl.errors import UserError
from pacl.prompts import fill

Batch = dict[str, Any]
"""``"images"`` uint8 [B, 3, H, W] or ``"tokens"`` [B, P, W]; ``"texts"``, T strings, each once; ``"positives"`` bool
[B, T], which are right for which image; ``"skipped"``, what is wrong with each sample that could not be used;
``"seed"``, of what the training draws of it."""


class Batches(Dataset[Batch]):
    """Draws -> batches; everything random follows (seed, epoch, slot), so that any process makes the same one.

    Args:
        sources: what draws point into.
        size: side of the square pictures.
        cut: how they become square.
        stores: frozen tokens of each source's pictures, which are then not read; None reads pictures.
        seed: of cuts, captions and templates.
        templates: what the captions' noun phrases are put into, beside the captions; none leaves them out.
        all_captions: every caption of a picture is a text, not one that is drawn.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        size: int,
        cut: Cut,
        stores: Sequence[TokenStore] | None = None,
        seed: int = 0,
        templates: Sequence[str] = (),
        all_captions: bool = False,
    ) -> None:
        self.sources, self.size, self.cut, self.stores = sources, size, cut, stores
        self.seed, self.templates, self.all_captions = seed, templates, all_captions

    def __getitem__(self, draw: Draw) -> Batch:
        skipped: list[str] = []
        kept: list[int] = []  # positions in the draw
        described: list[Sequence[Description]] = []
        images: list[np.ndarray] = []
        for position, (slot, k, i) in enumerate(zip(draw.slots, draw.sources, draw.indices, strict=True)):
            rng = Random(f"{self.seed}/{draw.epoch}/{slot}")
            try:
                described_as = self._describe(self.sources[k], int(i), rng)
                if self.stores is None:
                    images.append(self._picture(self.sources[k], int(i), rng))
                elif reason := self.stores[k].missing.get(int(i)):
                    raise UserError(reason)
            except UserError as error:
                skipped.append(str(error))
                continue
            kept.append(position)
            described.append(described_as)
        texts, positives = pair_texts(described, self.wrapper(f"{draw.epoch}/{draw.step}"))
        vision = (
            {"images": stack_images(images, self.size)}
            if self.stores is None
            else {"tokens": self._tokens(draw.sources[kept], draw.indices[kept])}
        )
        key = f"{self.seed}/{draw.epoch}/{draw.step}/{draw.slots[:1]}"  # the first slot tells processes apart
        seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "big")
        return {**vision, "texts": texts, "positives": positives, "skipped": skipped, "seed": seed}

    def _describe(self, source: PairSource, index: int, rng: Random) -> Sequence[Description]:
        described = source.descriptions(index)
        if not described:
            raise UserError(f"{source.name(index)} has no caption")
        return described if self.all_captions else [rng.choice(described)]

    def _picture(self, source: PairSource, index: int, rng: Random) -> np.ndarray:
        return self.cut.square(partial(source.image, index), self.size, rng)

    def _tokens(self, sources: np.ndarray, indices: np.ndarray) -> Tensor:
        """Rows of the stores, [b, P, W], in the order of the draw."""
        assert self.stores is not None
        tokens = torch.empty(len(indices), *self.stores[0].shape, dtype=self.stores[0].stamp.torch_dtype)
        for k, store in enumerate(self.stores):
            own = sources == k
            if own.any():
                tokens[torch.from_numpy(own)] = store.rows(indices[own])
        return tokens

    def wrapper(self, step: str) -> Callable[[str], str] | None:
        """What puts a noun phrase into a template: the same wherever it comes up in a step, on every process."""
        if not self.templates:
            return None
        return lambda phrase: fill(Random(f"{self.seed}/{step}/{phrase}").choice(self.templates), phrase)


class Pictures(Dataset[tuple[Tensor, dict[int, str]]]):
    """Square pictures of one source, batch by batch: uint8 [B, 3, H, W], and what is wrong with the unreadable ones.

    Args:
        source: the source.
        batches: indices of each batch.
        cut: how pictures become square, without chance.
        size: side of the squares.
    """

    def __init__(self, source: PairSource, batches: Sequence[Sequence[int]], cut: Cut, size: int) -> None:
        self.source, self.batches, self.cut, self.size = source, batches, cut, size

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> tuple[Tensor, dict[int, str]]:
        images: list[np.ndarray] = []
        reasons: dict[int, str] = {}
        for index in map(int, self.batches[batch]):
            try:
                images.append(self.cut.square(partial(self.source.image, index), self.size, Random(0)))
            except UserError as error:
                reasons[index] = str(error)
        return stack_images(images, self.size), reasons


def stack_images(images: Sequence[np.ndarray], size: int) -> Tensor:
    """Square uint8 pictures [H, W, 3], of that size if there are none, -> [B, 3, H, W]."""
    if not images:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
