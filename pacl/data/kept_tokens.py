"""The frozen tokens of sources, in memory or in a folder, computed if they are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from pacl.data.batches import Pictures
from pacl.data.loader import as_is
from pacl.data.pairs import PairSource
from pacl.data.photos import Cut
from pacl.data.token_store import Stamp, TokenStore
from pacl.errors import UserError

ENCODED = 64  # pictures that pass the frozen tower at once; it divides a shard, so that a resumed one is cut alike


class TokenModule(Protocol):
    """A Lightning module whose image tower is frozen, so that its tokens can be kept."""

    device: Any

    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Tokens [B, P, W] of uint8 images [B, 3, H, W]."""

    def token_stamp(self, size: int, cut: Cut, source: PairSource, dtype: str) -> Stamp:
        """What the tokens of a source depend on, for squares of that size."""


def kept_tokens(
    trainer: Trainer,
    sources: Sequence[PairSource],
    cut: Cut,
    size: int,
    where: Path | None,
    dtype: str,
    workers: int = 0,
) -> list[TokenStore]:
    """The frozen tokens of all pictures of some sources.

    Args:
        trainer: of the run; its module's tower makes the tokens, in the precision that it runs in.
        sources: the sources.
        cut: how pictures become square, without chance.
        size: side of the squares.
        where: folders WHERE-0, WHERE-1, ... for one source each, which the first process fills; None keeps them in
            the memory of every process.
        dtype: "float16" or "bfloat16".
        workers: processes that read pictures.

    Raises:
        UserError: the module's image tower is not frozen; on every process, what `TokenStore` says on the first.
    """
    module: Any = trainer.lightning_module
    if not hasattr(module, "token_stamp"):
        raise UserError(
            f"--data.cache: {type(module).__name__} trains its image tower, so there is nothing to keep; "
            "set --data.cache null"
        )
    stores = []
    for k, source in enumerate(sources):
        stamp = module.token_stamp(size, cut, source, dtype)
        encode = partial(_encode, trainer, source, cut, size, workers)
        if where is None:
            stores.append(TokenStore.in_memory(stamp, encode))
        else:
            folder = where.with_name(f"{where.name}-{k}")
            _first_process(trainer, partial(TokenStore.build, folder, stamp, encode))
            stores.append(TokenStore.open(folder, stamp))
    return stores


def _encode(
    trainer: Trainer, source: PairSource, cut: Cut, size: int, workers: int, indices: Sequence[int]
) -> Iterator[tuple[Tensor, dict[int, str]]]:
    """Frozen tokens of pictures, batch by batch, and what is wrong with the others."""
    module: TokenModule = trainer.lightning_module  # type: ignore[assignment]
    batches = [indices[i : i + ENCODED] for i in range(0, len(indices), ENCODED)]
    pictures = Pictures(source, batches, cut, size)
    for images, reasons in DataLoader(pictures, batch_size=None, num_workers=workers, collate_fn=as_is):
        with trainer.precision_plugin.forward_context():  # as in a training step
            tokens = module.frozen_tokens(images.to(module.device))
        yield tokens, reasons


def _first_process(trainer: Trainer, work: Callable[[], object]) -> None:
    """Let the first process do something; the others wait, and fail as it does."""
    failure = None
    if trainer.is_global_zero:
        try:
            work()
        except UserError as error:
            failure = str(error)
    if failure := trainer.strategy.broadcast(failure):
        raise UserError(failure)
