"""Blocks of counts survive, are shared out and add up."""

from __future__ import annotations

import numpy as np
import pytest

from eval.segmentation import measure as segmenting
from eval.segmentation.measure import gather, measure, part_file
from pacl.errors import UserError
from tests.eval.segmentation.measure.benches import a_bench, folder_of


def test_blocks_survive_and_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "BLOCK", 3)
    folder = folder_of(tmp_path, count=8)
    measure(a_bench(folder), tmp_path / "one", batch=2)
    whole = gather(a_bench(folder), tmp_path / "one")
    for rank in (1, 0):
        measure(a_bench(folder), tmp_path / "two", rank=rank, ranks=2, batch=2)
    shared = gather(a_bench(folder), tmp_path / "two")
    assert np.array_equal(whole.areas, shared.areas)
    assert np.array_equal(whole.confusion, shared.confusion)

    part_file(tmp_path / "one", 1).unlink()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "one").iterdir()}
    bench, told = a_bench(folder), []
    counted: list[int] = []
    count = bench.count
    monkeypatch.setattr(bench, "count", lambda index, *rest: counted.extend(index) or count(index, *rest))
    measure(bench, tmp_path / "one", batch=2, progress=told.append)
    assert counted == [3, 4, 5]
    assert told == [5, 7, 8]
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in (tmp_path / "one").iterdir()}.items()
    assert np.array_equal(gather(bench, tmp_path / "one").areas, whole.areas)


def test_blocks_of_another_run_or_place_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenting, "BLOCK", 2)
    bench, other = a_bench(folder_of(tmp_path, count=4)), a_bench(folder_of(tmp_path, count=4))
    other.run = "another"
    parts = tmp_path / "parts"
    measure(bench, parts)
    assert len(gather(bench, parts).index) == 4
    with pytest.raises(UserError, match=r"00000\.npz is missing, damaged or of another run"):
        gather(other, parts)
    part_file(parts, 1).write_bytes(part_file(parts, 0).read_bytes())
    with pytest.raises(UserError, match=r"00001\.npz"):
        gather(bench, parts)
    measure(bench, parts)
    assert gather(bench, parts).index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_one_line_and_loses_nothing(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(segmenting, "BLOCK", 2)
    folder = folder_of(tmp_path)
    (tmp_path / "images" / "03.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as raised:
        measure(a_bench(folder), tmp_path / "parts", batch=1, workers=workers)
    assert "03.png" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert part_file(tmp_path / "parts", 0).is_file()
    assert not part_file(tmp_path / "parts", 1).is_file()
