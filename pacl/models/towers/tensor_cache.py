"""Tensors that depend on the patch grid only, kept for the next image of the same size, within a bound in bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class TensorCache:
    """Keys -> tensors, at most ``limit`` bytes of them: the least recently used ones are dropped first.

    Args:
        limit: bytes. A tensor that is larger is made for each call.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[Hashable, Tensor] = {}  # the most recently used last

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that are kept."""
        return sum(x.nbytes for x in self._kept.values())

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of ``key``, made now if it is not kept."""
        x = self._kept.pop(key, None)
        if x is None:
            x = make()
        if x.nbytes <= self.limit:
            self._kept[key] = x
            while self.nbytes > self.limit:
                self._kept.pop(next(iter(self._kept)))
        return x
