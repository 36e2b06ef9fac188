"""What is kept stays within its bytes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from pacl.models.towers.tensor_cache import TensorCache


def test_the_least_recently_used_tensors_are_dropped_first() -> None:
    cache = TensorCache(limit=3 * 40)  # three of ten float32
    made: list[int] = []

    def get(key: int, size: int = 10) -> torch.Tensor:
        def make() -> torch.Tensor:
            made.append(key)
            return torch.full((size,), float(key))

        return cache.get(key, make)

    assert [get(key)[0].item() for key in (1, 2, 3, 1)] == [1, 2, 3, 1]
    assert made == [1, 2, 3]
    get(4)  # drops 2, which was used before 1
    assert get(1) is get(1)
    get(2)
    assert made == [1, 2, 3, 4, 2]
    assert cache.nbytes == 120


def test_a_tensor_above_the_limit_is_returned_and_not_kept() -> None:
    cache = TensorCache(limit=39)
    assert cache.get("x", lambda: torch.zeros(10)) is not cache.get("x", lambda: torch.zeros(10))
    assert cache.nbytes == 0


def test_threads_may_share_it() -> None:
    cache, before = TensorCache(limit=3 * 40), sys.getswitchinterval()

    def use(start: int) -> bool:
        keys = [(start + i) % 7 for i in range(3000)]
        return all(cache.get(key, lambda key=key: torch.full((10,), float(key)))[0] == key for key in keys)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(use, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert cache.nbytes <= 120
