"""Embeddings of texts that come again: captions every epoch, class names for every picture."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

BYTES_KEPT = 2 << 30  # of host memory: a million texts at D = 512


class TextCache:
    """Texts -> embeddings, each text computed once while there is room.

    Args:
        encode: computes them: n texts -> [n, D] float32, on any device.
        batch: how many at once. Always exactly so many, filled up with repetitions: the last bits of a matrix
            product depend on its size, and what a text gets must not depend on the texts that come with it.
        limit: bytes that are kept; when they are full, all go.
        kind: only texts of one kind are computed together; None: all are of one.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], Tensor],
        batch: int = 64,
        limit: int = BYTES_KEPT,
        kind: Callable[[str], Hashable] | None = None,
    ) -> None:
        self.encode, self.batch, self.limit, self.kind = encode, batch, limit, kind
        self._rows: dict[str, int] = {}
        self._kept = torch.empty(0, 0)  # [rows that there is room for, D]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of one text or more, float32 [T, D], in host memory."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._rows]
        room = self.limit // (4 * self._kept.shape[1]) if self._kept.shape[1] else len(missing)
        if len(self._rows) + len(missing) > room:
            self._rows.clear()
            missing = list(dict.fromkeys(texts))
        groups: dict[Hashable, list[str]] = {}
        for text in missing:
            groups.setdefault(self.kind(text) if self.kind else None, []).append(text)
        for group in groups.values():
            for i in range(0, len(group), self.batch):
                self._keep(group[i : i + self.batch])
        return self._kept[[self._rows[text] for text in texts]]

    @torch.inference_mode(False)  # a tensor made in inference mode could not be written to outside of it
    def _keep(self, texts: list[str]) -> None:
        filled = texts + texts[:1] * (self.batch - len(texts))
        encoded = self.encode(filled)[: len(texts)].float().cpu()
        first = len(self._rows)
        if first + len(texts) > len(self._kept):
            grown = torch.empty(max(2 * len(self._kept), first + len(texts)), encoded.shape[1])
            if first:
                grown[:first] = self._kept[:first]
            self._kept = grown
        self._kept[first : first + len(texts)] = encoded
        self._rows.update((text, first + i) for i, text in enumerate(texts))
