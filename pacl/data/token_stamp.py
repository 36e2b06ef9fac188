"""Everything that cached frozen tokens depend on; a cache whose stamp differs is stale."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from pacl.data.crop import SquareCrop
from pacl.data.pairs import PairSource
from pacl.errors import ArgumentError, UserError
from pacl.models import identity
from pacl.models.towers.grid import PatchGrid

if TYPE_CHECKING:
    from pacl.models.backbone import Backbone

VERSION = 2
"""Version of the file format and of the decoding of images; stores of other versions are refused."""

SHARD_BYTES = 256 * 2**20
SHARD_MULTIPLE = 64
"""Shards have a multiple of this number of images, so that a resumed build has the same batches."""

SAMPLED = 16
"""Number of images whose content is part of the digest of a source."""

CacheDtype = Literal["float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What the tokens of a store depend on; made by `of`. The names of the fields are those in ``stamp.json``.

    Attributes:
        version: version of the file format.
        backbone: name of the image tower, `Backbone.image_name`; backbones that differ only in their text tower share
            a store.
        weights: checksum of the image tower, `Backbone.image_checksum`.
        quick_gelu: whether the image tower uses QuickGELU.
        mean: per colour, subtracted from the image.
        std: per colour, the image is divided by it.
        dense: dense variant of the last block.
        layers: earlier layers whose features are part of a token.
        tower: digest of all that tokens depend on in the tower, `pacl.models.identity.tokens`: of more than the fields
            above, which are for readers.
        size: side of the square images in pixels.
        cut: how images were cropped, a `SquareCrop.mode`.
        dtype: type of the stored tokens, "bfloat16" or "float16".
        precision: precision that the tower computed in, "fp32", "bf16" or "fp16".
        images: number of images.
        source: `source_digest` of the images.
        patches: P, the number of patches of an image.
        width: W, the length of a token.
    """

    version: int = VERSION
    backbone: str
    weights: str
    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dense: str
    layers: tuple[int, ...] = ()
    tower: str = ""
    size: int
    cut: str
    dtype: str
    precision: str = "fp32"
    images: int
    source: str
    patches: int
    width: int

    @classmethod
    def of(
        cls,
        clip: Backbone,
        dense: str,
        size: int,
        crop: SquareCrop,
        source: PairSource,
        dtype: str,
        precision: str = "fp32",
    ) -> Stamp:
        """The stamp of the tokens of a source.

        Raises:
            UserError: the crop is random.
            ArgumentError: ``cache_dtype``: not one of `CacheDtype`.
        """
        if crop.is_random:
            raise UserError(
                f"cut.mode {crop.mode}, flip {crop.flip}, colour {crop.colour}: tokens of random crops cannot be "
                "cached; use centre, pad or squash without flip and colour, or set cache to null"
            )
        if dtype not in get_args(CacheDtype):
            raise ArgumentError("cache_dtype", dtype, f"must be {' or '.join(get_args(CacheDtype))}")
        return cls(
            backbone=clip.image_name,
            weights=clip.image_checksum()[:16],
            quick_gelu=clip.image.quick_gelu,
            mean=clip.mean,
            std=clip.std,
            dense=dense,
            layers=clip.layers,
            tower=identity.digest(identity.tokens(clip)),
            size=size,
            cut=crop.mode,
            dtype=dtype,
            precision=precision,
            images=len(source),
            source=source_digest(source),
            patches=PatchGrid.cover(size, size, clip.patch, clip.patch).patches,
            width=clip.width,
        )

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def image_bytes(self) -> int:
        return self.patches * self.width * self.torch_dtype.itemsize

    @property
    def shard_size(self) -> int:
        """Number of images per shard; the last shard may have fewer."""
        return max(1, SHARD_BYTES // self.image_bytes // SHARD_MULTIPLE) * SHARD_MULTIPLE

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_size)

    def shard(self, k: int) -> range:
        """The images of shard k."""
        return range(k * self.shard_size, min((k + 1) * self.shard_size, self.images))

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # tuples become lists, as in a file that was read


def source_digest(source: PairSource) -> str:
    """16 hex digits that identify a sequence of images, independently of the path of their folder.

    SHA-256 of all file names and sizes (None for images that are not files) and of the content of a few files.
    """
    digest = hashlib.sha256()
    sampled = set(np.linspace(0, len(source) - 1, min(SAMPLED, len(source)), dtype=int).tolist())
    for index in range(len(source)):
        name = source.name(index)
        try:
            size: int | None = os.stat(name).st_size
            content = Path(name).read_bytes() if index in sampled else b""
        except (OSError, ValueError):  # not a file, or missing
            size, content = None, b""
        digest.update(json.dumps([PurePath(name).name, size]).encode())
        digest.update(content)
    return digest.hexdigest()[:16]
