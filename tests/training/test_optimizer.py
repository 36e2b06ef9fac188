from __future__ import annotations

import pytest

from pacl.training.optimizer import warmup_cosine


def test_it_rises_linearly_and_falls_as_a_cosine() -> None:
    factor = warmup_cosine(4, 12)
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [factor(step) for step in (4, 8, 12, 20)] == pytest.approx([1, 0.5, 0, 0])
    assert warmup_cosine(0, 1)(0) == 1
