"""Samples of a stream, and figures of a data source."""

from __future__ import annotations

import numpy as np

from pacl.data.inspection import Finding, Item
from pacl.data.statistics import Reservoir, Statistics


def test_reservoir_is_uniform_and_in_order() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        sample: Reservoir[int] = Reservoir(3, seed)
        for i in range(10):
            sample.add(i)
        assert sample.items() == sorted(sample.items())
        counts[sample.items()] += 1
    np.testing.assert_allclose(counts / 2000, 0.3, atol=0.05)


def test_nothing_readable_still_has_figures() -> None:
    tally = Statistics()
    tally.add(Item("a.jpg", []), Finding("missing", "a.jpg does not exist"))
    figures = tally.figures()
    assert (figures["bad"], figures["width"], figures["caption_tokens"], figures["small"]["share"]) == (
        1,
        None,
        None,
        None,
    )
