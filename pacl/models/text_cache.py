"""A cache of text embeddings, since captions are the same in every epoch and class names for every image."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

CACHE_BYTES = 2 << 30  # host memory; enough for a million texts with D = 512


class TextCache:
    """Texts -> embeddings. Each text is encoded once, unless the cache becomes full.

    The embedding of a text must not depend on the other texts in its batch, but the rounding of matrix products depends
    on the batch size. So batches are padded, by repeating a text, to sizes for which rounding is the same.

    Several threads may use it at once; one of them encodes at a time.

    Args:
        encode: computes the embeddings: n texts -> [n, D] float32, on any device.
        batch: the largest number of texts in one call.
        multiple: batches are padded to a multiple of this number of texts; None pads to ``batch``.
        limit: maximum size of the cache in bytes; when it is reached, the cache is cleared.
        kind: text -> key; only texts with the same key share a batch. None puts all texts together.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], Tensor],
        batch: int = 64,
        multiple: int | None = None,
        limit: int = CACHE_BYTES,
        kind: Callable[[str], Hashable] | None = None,
    ) -> None:
        self.encode, self.batch, self.multiple, self.limit, self.kind = encode, batch, multiple, limit, kind
        self._rows: dict[str, int] = {}
        self._kept = torch.empty(0, 0)  # [capacity, D]
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which can be neither copied nor pickled."""
        with self._lock:
            return {**self.__dict__, "_rows": dict(self._rows), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of one text or more, float32 [T, D], in host memory."""
        with self._lock:
            return self._embed(texts)

    def _embed(self, texts: Sequence[str]) -> Tensor:
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
        padded = texts + texts[:1] * (-len(texts) % (self.multiple or self.batch))
        encoded = self.encode(padded)[: len(texts)].float().cpu()
        first = len(self._rows)
        if first + len(texts) > len(self._kept):
            grown = torch.empty(max(2 * len(self._kept), first + len(texts)), encoded.shape[1])
            if first:
                grown[:first] = self._kept[:first]
            self._kept = grown
        self._kept[first : first + len(texts)] = encoded
        self._rows.update((text, first + i) for i, text in enumerate(texts))
