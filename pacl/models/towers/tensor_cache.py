"""Tensors that depend on the patch grid only, kept for the next image of the same size, within a bound in bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class TensorCache:
    """Keys -> tensors, at most ``limit`` bytes of them: the least recently used ones are dropped first.

    Several threads may use it at once; then a tensor may be made twice. It has no lock, which could not be copied and
    pickled with the model.

    Args:
        limit: bytes. A tensor that is larger is made for each call.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[Hashable, Tensor] = {}  # the most recently used last

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that are kept."""
        return sum(x.nbytes for x in list(self._kept.values()))

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of ``key``, made now if it is not kept."""
        x = self._kept.pop(key, None)
        if x is None:
            x = make()
        if x.nbytes <= self.limit:
            self._kept[key] = x
            for oldest in list(self._kept):
                if self.nbytes <= self.limit:
                    break
                self._kept.pop(oldest, None)
        return x
