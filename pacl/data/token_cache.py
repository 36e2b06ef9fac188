"""The frozen tokens of the images that a run trains on, computed once and cached in memory or in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from pacl.data.batches import ImageBatches
from pacl.data.crop import SquareCrop
from pacl.data.pairs import PairSource
from pacl.data.sampling import as_is
from pacl.data.token_stamp import Stamp
from pacl.data.token_store import Encode, TokenStore
from pacl.data.workers import usable
from pacl.distributed import on_first_process
from pacl.errors import ArgumentError
from pacl.progress import Tracked, untracked

BATCH_SIZE = 64
"""Images that are encoded at once. It divides the size of a shard, so that a resumed build has the same batches."""


class TokenModule(Protocol):
    """A Lightning module with a frozen image tower, whose tokens can be cached."""

    device: Any

    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Tokens [B, P, W] of uint8 images [B, 3, H, W]."""

    def token_stamp(self, size: int, crop: SquareCrop, source: PairSource, dtype: str) -> Stamp:
        """What the tokens of a source depend on, for square images of that size."""


def cached_tokens(
    trainer: Trainer,
    sources: Sequence[PairSource],
    crop: SquareCrop,
    size: int,
    where: Path | None,
    dtype: str,
    workers: int = 0,
    tracked: Tracked = untracked,
) -> list[TokenStore]:
    """The frozen tokens of all images of some sources.

    Args:
        trainer: the run's trainer; the image tower of its module computes the tokens, at the precision of the training.
        sources: the images.
        crop: how images are cropped; must not be random.
        size: side of the square images.
        where: path of the folders WHERE-0, WHERE-1, ..., one per source, which the first process fills; None keeps the
            tokens in the memory of every process.
        dtype: "float16" or "bfloat16".
        workers: processes that read images.
        tracked: wraps the batches of images whose tokens are computed.

    Raises:
        ArgumentError: ``cache``: the image tower of the module is not frozen.
        UserError: on every process, the error of `TokenStore` on the first one.
    """
    module: Any = trainer.lightning_module
    if not hasattr(module, "token_stamp"):
        cache = "memory" if where is None else where.parent
        raise ArgumentError("cache", cache, f"{type(module).__name__} trains its image tower; set cache to null")
    stores = []
    for k, source in enumerate(sources):
        stamp = module.token_stamp(size, crop, source, dtype)
        encode = partial(_encode, trainer, source, crop, stamp, workers, tracked)
        if where is None:
            stores.append(TokenStore.in_memory(stamp, encode))
        else:
            folder = where.with_name(f"{where.name}-{k}")
            on_first_process(partial(_build, folder, stamp, encode))
            stores.append(TokenStore.open(folder, stamp))
    return stores


def _encode(
    trainer: Trainer,
    source: PairSource,
    crop: SquareCrop,
    stamp: Stamp,
    workers: int,
    tracked: Tracked,
    indices: Sequence[int],
) -> Iterator[tuple[Tensor, dict[int, str]]]:
    """Frozen tokens of images, batch by batch, and the errors of the unreadable ones. See `token_store.Encode`."""
    module: TokenModule = trainer.lightning_module  # type: ignore[assignment]
    batches = [indices[i : i + BATCH_SIZE] for i in range(0, len(indices), BATCH_SIZE)]
    data = ImageBatches(source, batches, crop, stamp.size)
    loader = DataLoader(data, batch_size=None, num_workers=usable(workers), collate_fn=as_is)
    for images, reasons in tracked(loader, "frozen tokens, batch", len(batches)):
        if not len(images):  # not every tower takes an empty batch
            yield torch.empty(0, stamp.patches, stamp.width), reasons
            continue
        with trainer.precision_plugin.forward_context():  # as in a training step
            tokens = module.frozen_tokens(images.to(module.device))
        yield tokens, reasons


def _build(folder: Path, stamp: Stamp, encode: Encode) -> None:
    TokenStore.build(folder, stamp, encode)  # each process opens it itself
