"""Tokens, their stamp, and an encoder that notes what it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pacl.data.token_stamp import Stamp

STAMP = Stamp(
    backbone="bundled",
    weights="0123456789abcdef",
    quick_gelu=False,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    dense="value",
    size=32,
    cut="centre",
    dtype="bfloat16",
    images=150,
    source="fedcba9876543210",
    patches=4,
    width=6,
)
TOKENS = torch.randn(150, 4, 6, generator=torch.Generator().manual_seed(0))
KEPT = TOKENS.bfloat16()


class Encoder:
    """Batches of ``size`` from `TOKENS`; it notes what it is asked for."""

    def __init__(
        self, size: int = 10, unreadable: Mapping[int, str] = {}, fail_at: int | None = None, tokens: Tensor = TOKENS
    ) -> None:
        self.size, self.unreadable, self.fail_at, self.tokens = size, unreadable, fail_at, tokens
        self.encoded: list[int] = []

    def __call__(self, wanted: Sequence[int]) -> Iterator[tuple[Tensor, dict[int, str]]]:
        for start in range(0, len(wanted), self.size):
            batch = wanted[start : start + self.size]
            if self.fail_at in batch:
                raise ZeroDivisionError
            self.encoded += batch
            reasons = {i: self.unreadable[i] for i in batch if i in self.unreadable}
            yield self.tokens[[i for i in batch if i not in reasons]], reasons


class NotAsked:
    def __call__(self, wanted: Sequence[int]) -> Iterator[tuple[Tensor, dict[int, str]]]:
        raise AssertionError(f"encodes {wanted} again")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


class Named:
    """A source without files."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]
