"""Contrastive batches of images (or their frozen tokens) and texts, with the matrix of positives.

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

from pacl.data.crop import SquareCrop
from pacl.data.pairs import Description, PairSource
from pacl.data.sampling import StepIndices
from pacl.data.token_store import TokenStore
from pacl.errors import UserError
from pacl.prompts import fill

Batch = dict[str, Any]
"""``"images"`` uint8 [B, 3, H, W] or ``"tokens"`` [B, P, W]; ``"texts"``, T distinct strings; ``"positives"`` bool
[B, T], the texts that describe each image; ``"skipped"``, the error message of each sample that could not be used;
``"seed"``, for random choices during the training step."""

PERSONS = {
    *("man", "woman", "boy", "girl", "child", "kid", "person", "people", "baby", "toddler"),
    *("teenager", "teen", "adult", "guy", "lady", "mom", "dad", "mother", "father", "friend", "couple", "family"),
    *("bride", "groom", "student", "crowd", "audience", "fan", "spectator", "player", "athlete", "runner", "racer"),
    *("rider", "biker", "bicyclist", "cyclist", "climber", "hiker", "diver", "swimmer", "surfer", "kayaker"),
    *("skater", "skateboarder", "skier", "snowboarder", "gymnast", "wrestler", "dancer", "singer", "musician"),
    *("performer", "artist", "worker", "officer", "policeman", "soldier", "cowboy", "fisherman", "driver"),
}
"""Noun phrases whose last word is one of these also count as "person"."""


def with_person(phrases: Sequence[str]) -> Sequence[str]:
    """Append "person" if one of the phrases ends in a word for a person (see `PERSONS`).

    Captions say man, girl or skier and rarely "person", the word that users search for.
    """
    return [*phrases, "person"] if any(phrase.rpartition(" ")[2] in PERSONS for phrase in phrases) else phrases


def pair_texts(
    described: Sequence[Sequence[Description]], wrap: Callable[[str], str] | None = None
) -> tuple[list[str], Tensor]:
    """The texts of a batch and the matrix of positives.

    The texts are the captions and, if ``wrap`` is given, their noun phrases (`with_person`) as further texts. Equal
    texts are merged: a text is a positive of every image that has it.

    Args:
        described: for each of B images, its captions with their noun phrases.
        wrap: puts a noun phrase into a template; equal phrases must get equal templates. None: captions only.

    Returns:
        T distinct texts, captions first, and the positives, bool [B, T].
    """
    column: dict[str, int] = {}
    pairs = [
        (image, column.setdefault(caption, len(column))) for image, own in enumerate(described) for caption, _ in own
    ]
    if wrap is not None:
        pairs += [
            (image, column.setdefault(wrap(phrase), len(column)))
            for image, own in enumerate(described)
            for _, phrases in own
            for phrase in with_person(phrases)
        ]
    positives = torch.zeros(len(described), len(column), dtype=torch.bool)
    if pairs:
        positives[tuple(zip(*pairs, strict=True))] = True
    return list(column), positives


class Batches(Dataset[Batch]):
    """Makes the batch of each step. All randomness depends on (seed, epoch, slot) only, so every process gets the same.

    Args:
        sources: the sources that the steps index.
        size: side of the square images.
        crop: how images are cropped.
        stores: frozen tokens of each source; the images are then not read. None reads the images.
        seed: decides crops, captions and templates.
        templates: noun phrases are put into these, and become texts beside the captions; none leaves them out.
        all_captions: use every caption of an image, instead of a random one.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        size: int,
        crop: SquareCrop,
        stores: Sequence[TokenStore] | None = None,
        seed: int = 0,
        templates: Sequence[str] = (),
        all_captions: bool = False,
    ) -> None:
        self.sources, self.size, self.crop, self.stores = sources, size, crop, stores
        self.seed, self.templates, self.all_captions = seed, templates, all_captions

    def __getitem__(self, step: StepIndices) -> Batch:
        """The batch of a step, without the images that cannot be read or have no caption."""
        skipped: list[str] = []
        kept: list[int] = []  # positions in the step
        described: list[Sequence[Description]] = []
        images: list[np.ndarray] = []
        for position, (slot, k, i) in enumerate(zip(step.slots, step.sources, step.indices, strict=True)):
            rng = Random(f"{self.seed}/{step.epoch}/{slot}")
            try:
                described_as = self._describe(self.sources[k], int(i), rng)
                if self.stores is None:
                    images.append(self.crop.square(partial(self.sources[k].image, int(i)), self.size, rng))
                elif reason := self.stores[k].missing.get(int(i)):
                    raise UserError(reason)
            except UserError as error:
                skipped.append(str(error))
                continue
            kept.append(position)
            described.append(described_as)
        texts, positives = pair_texts(described, self.wrapper(f"{step.epoch}/{step.step}"))
        vision = (
            {"images": stack_images(images, self.size)}
            if self.stores is None
            else {"tokens": self._tokens(step.sources[kept], step.indices[kept])}
        )
        key = f"{self.seed}/{step.epoch}/{step.step}/{step.slots[:1]}"  # the first slot differs between processes
        seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "big")
        return {**vision, "texts": texts, "positives": positives, "skipped": skipped, "seed": seed}

    def _describe(self, source: PairSource, index: int, rng: Random) -> Sequence[Description]:
        described = source.descriptions(index)
        if not described:
            raise UserError(f"{source.name(index)} has no caption")
        return described if self.all_captions else [rng.choice(described)]

    def _tokens(self, sources: np.ndarray, indices: np.ndarray) -> Tensor:
        """Tokens [B, P, W] from the stores, in the order of the step."""
        assert self.stores is not None
        tokens = torch.empty(len(indices), *self.stores[0].shape, dtype=self.stores[0].stamp.torch_dtype)
        for k, store in enumerate(self.stores):
            own = sources == k
            if own.any():
                tokens[torch.from_numpy(own)] = store.rows(indices[own])
        return tokens

    def wrapper(self, step: str) -> Callable[[str], str] | None:
        """A function that puts a noun phrase into a template, which (seed, step, phrase) determine on any process."""
        if not self.templates:
            return None
        return lambda phrase: fill(Random(f"{self.seed}/{step}/{phrase}").choice(self.templates), phrase)


class ImageBatches(Dataset[tuple[Tensor, dict[int, str]]]):
    """Cropped images of one source in batches: uint8 [B, 3, H, W], and the errors of unreadable images by index.

    Args:
        source: the source.
        batches: indices of each batch.
        crop: how images are cropped; must not be random.
        size: side of the square images.
    """

    def __init__(self, source: PairSource, batches: Sequence[Sequence[int]], crop: SquareCrop, size: int) -> None:
        self.source, self.batches, self.crop, self.size = source, batches, crop, size

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> tuple[Tensor, dict[int, str]]:
        images: list[np.ndarray] = []
        reasons: dict[int, str] = {}
        for index in map(int, self.batches[batch]):
            try:
                images.append(self.crop.square(partial(self.source.image, index), self.size, Random(0)))
            except UserError as error:
                reasons[index] = str(error)
        return stack_images(images, self.size), reasons


def stack_images(images: Sequence[np.ndarray], size: int) -> Tensor:
    """Images, uint8 [size, size, 3] each, as one tensor [B, 3, size, size]; B may be 0."""
    if not images:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
