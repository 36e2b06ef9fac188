"""What frozen patch tokens depend on: where any of it differs, kept ones are stale."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pacl.data.pairs import PairSource
from pacl.data.photos import Cut
from pacl.errors import UserError
from pacl.models.towers.grid import PatchGrid

if TYPE_CHECKING:
    from pacl.models.backbone import Backbone

FLAG = "--data.cache"
VERSION = 1  # of the store's layout, and of how a picture becomes pixels: older stores are refused
SHARD_BYTES = 256 * 2**20
BATCH = 64  # shards are multiples of it, so that batches that divide it are cut alike in a resumed build
SAMPLED = 16  # pictures whose content goes into a source's digest


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What the tokens of a store depend on; `of` fills it in.

    Attributes:
        version: of the store itself.
        backbone: the image tower's name, `Backbone.image_name`; backbones that differ in their text tower alone share
            a store.
        weights: its checksum, `Backbone.image_checksum`.
        quick_gelu: its activation.
        mean: what it normalises pictures with.
        std: likewise.
        dense: variant of its last block.
        layers: earlier layers whose features are part of a token.
        size: side in pixels of the square pictures.
        cut: how they became square, a `Cut.mode`.
        dtype: that tokens are kept in, "bfloat16" or "float16".
        precision: that the tower computed them in, "fp32", "bf16" or "fp16".
        pictures: how many.
        source: their `source_digest`.
        patches: P.
        width: W.
    """

    version: int = VERSION
    backbone: str
    weights: str
    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dense: str
    layers: tuple[int, ...] = ()
    size: int
    cut: str
    dtype: str
    precision: str = "fp32"
    pictures: int
    source: str
    patches: int
    width: int

    @classmethod
    def of(
        cls,
        clip: Backbone,
        dense: str,
        size: int,
        cut: Cut,
        source: PairSource,
        dtype: str = "bfloat16",
        precision: str = "fp32",
    ) -> Stamp:
        """The stamp of a source's tokens.

        Raises:
            UserError: a random cut, or another dtype than bfloat16 and float16.
        """
        if cut.is_random:
            raise UserError(
                f"{FLAG}: pictures come out of --data.cut.mode {cut.mode} with flip {cut.flip} and colour {cut.colour} "
                "differently every time; keep tokens of centre, pad or squash without flip and colour, or no cache"
            )
        if dtype not in ("bfloat16", "float16"):
            raise UserError(f"{FLAG}: tokens are kept in bfloat16 or float16, not {dtype}")
        return cls(
            backbone=clip.image_name,
            weights=clip.image_checksum()[:16],
            quick_gelu=clip.image.quick_gelu,
            mean=clip.mean,
            std=clip.std,
            dense=dense,
            layers=clip.layers,
            size=size,
            cut=cut.mode,
            dtype=dtype,
            precision=precision,
            pictures=len(source),
            source=source_digest(source),
            patches=PatchGrid.cover(size, size, clip.patch, clip.patch).patches,
            width=clip.width,
        )

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def picture_bytes(self) -> int:
        return self.patches * self.width * self.torch_dtype.itemsize

    @property
    def shard_size(self) -> int:
        """Pictures of a shard; the last one has what is left."""
        return max(1, SHARD_BYTES // self.picture_bytes // BATCH) * BATCH

    @property
    def shards(self) -> int:
        return -(-self.pictures // self.shard_size)

    def shard(self, k: int) -> range:
        """The pictures of shard k."""
        return range(k * self.shard_size, min((k + 1) * self.shard_size, self.pictures))

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # tuples come back as lists, so that what was read compares


def source_digest(source: PairSource) -> str:
    """16 hex digits that tell one sequence of pictures from another, wherever their folder is.

    It is over the last part of every name, the sizes of those that are files, and the content of a few.
    """
    digest = hashlib.sha256()
    sampled = set(np.linspace(0, len(source) - 1, min(SAMPLED, len(source)), dtype=int).tolist())
    for index in range(len(source)):
        name = source.name(index)
        try:
            size: int | None = os.stat(name).st_size
            content = Path(name).read_bytes() if index in sampled else b""
        except (OSError, ValueError):  # no file, or not here
            size, content = None, b""
        digest.update(json.dumps([PurePath(name).name, size]).encode())
        digest.update(content)
    return digest.hexdigest()[:16]
