"""The order of scores."""

from __future__ import annotations

import numpy as np
import torch

from pacl.index.ranking import Vectors, best


def test_the_best_come_first_and_equal_ones_keep_their_order() -> None:
    scores = np.array([0.1, 0.5, 0.5 + 1e-9, -0.2, 0.7], dtype=np.float32)
    assert best(scores, 3).tolist() == [4, 1, 2]
    assert best(scores, 9).tolist() == [4, 1, 2, 0, 3]
    assert best(np.array([0.5 + 1e-8, 0.5, 0.5 + 1e-8]), 3).tolist() == [0, 1, 2]


def test_a_score_is_the_highest_cosine_with_the_queries() -> None:
    vectors = np.eye(3, dtype=np.float32)
    found = Vectors([b"a", b"b", b"c", b"d"], np.array([5, 6, 7, 5]), np.array([0, 1, 2, 0]), vectors)
    queries = torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(found.scores(queries), [0.6, 1.0, 0.0, 0.6])


def test_an_autocast_around_it_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 8)).astype(np.float32)
    found = Vectors([b"a", b"b", b"c", b"d"], np.arange(4), np.arange(4), vectors)
    queries = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    plain = found.scores(queries)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            np.testing.assert_array_equal(found.scores(queries), plain)
