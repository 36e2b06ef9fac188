"""The command on drawn benchmarks."""

from __future__ import annotations

from pathlib import Path

from eval.common.result import Result, read_results
from eval.segmentation import drawn_data, generate
from eval.segmentation import run as segmentation

QUICK = ("--templates", "none", "--size", "48", "--window", "32/16", "--workers", "0", "--device", "cpu")


def draw(name: str, root: Path, count: int) -> None:
    """Drawn pictures without the note that says so: as if they were the benchmark's."""
    assert generate.main([name, "--data", str(root), "--count", str(count), "--size", "40x60"]) == 0
    (root / drawn_data.RECORD).unlink()


def run(tmp_path: Path, model: str, *words: str, out: str = "out") -> list[Result]:
    assert segmentation.main([*words, "--model", model, "--out", str(tmp_path / out), *QUICK]) == 0
    return read_results(tmp_path / out)


def figures(results: list[Result]) -> list[tuple]:
    """All that must be the same twice."""
    return [(r.dataset, r.method, r.protocol, r.scores, r.intervals, str(r.details)) for r in results]
