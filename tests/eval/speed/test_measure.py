"""Ways in turns, and what a row says of them."""

from __future__ import annotations

import pytest
import torch

from eval.speed import measure
from eval.speed.measure import Options, Row, Way, compare

CPU = Options(torch.device("cpu"), runs=2)


def scripted(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    """The durations of all calls, in order; a call of 1 s and more is not repeated."""
    durations = iter(times)

    def seconds(run, device, clock=None, repeats=1):
        run()
        return next(durations)

    monkeypatch.setattr(measure, "seconds", seconds)


def test_ways_run_in_turns_and_are_compared_by_their_shortest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, *(9, 9, 9), *(2, 4, 5), *(3, 6, 4))
    calls = []
    limit = Way("limit", lambda: calls.append("limit"))
    slow = Way("slow", lambda: calls.append("slow"), "bf16", limit=limit, items=8)
    quick = Way("quick", lambda: calls.append("quick"), reference=slow, limit=limit, sizes={"B": 3})
    rows = compare("phi", "a case", [limit, slow, quick], CPU)
    assert calls == ["limit", "slow", "quick"] * 3
    assert [row.ms for row in rows] == [[2000, 3000], [4000, 6000], [5000, 4000]]
    assert rows[0].spread == pytest.approx(0.5)
    assert (rows[1].fraction, rows[1].ratio, rows[1].limit) == (0.5, None, "limit, fp32")
    assert (rows[2].ratio, rows[2].reference, rows[2].fraction) == (1.0, "slow, bf16", 0.5)
    assert rows[1].figures == {"images_per_second": 2.0}
    assert rows[2].sizes == {"B": 3}


def test_memory_that_runs_out_is_noted_and_the_others_go_on() -> None:
    def exhausted() -> None:
        raise torch.OutOfMemoryError("allocate memory")

    large = Way("large", exhausted)
    rows = compare("phi", "a case", [large, Way("small", lambda: None, reference=large)], CPU)
    assert (rows[0].ms, rows[0].note, rows[0].peak_mb) == ([], "out of memory", None)
    assert len(rows[1].ms) == 2
    assert (rows[1].ratio, rows[1].note) == (None, "")


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        compare("phi", "a case", [Way("wrong", lambda: 1 / 0)], CPU)


def test_a_long_call_runs_once() -> None:
    calls = []
    (row,) = compare("segment", "a case", [Way("one", lambda: calls.append(1))], CPU, once=True)
    assert len(calls) == len(row.ms) == 1
    assert row.spread is None


@pytest.mark.skipif(not measure.Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_peak_memory_is_that_of_the_call() -> None:
    def allocate() -> None:
        torch.ones(64 * 2**20 // 4)  # 64 MiB

    rows = compare("phi", "a case", [Way("much", allocate), Way("nothing", lambda: None)], CPU)
    assert 60 < rows[0].peak_mb < 90
    assert rows[1].peak_mb < 30


def test_the_least_and_the_spread() -> None:
    row = Row("phi", "a case", "a way", ms=[3.0, 2.0])
    assert (row.least, row.spread) == (2.0, 0.5)
    assert (Row("phi", "a case", "a way").least, Row("phi", "a case", "a way", ms=[1.0]).spread) == (None, None)
