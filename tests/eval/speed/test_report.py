"""Files of the results."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval.speed.measure import Row
from eval.speed.report import HEADER, cells, exponent, growth, markdown, read, write_charts, write_tables
from pacl.errors import UserError
from tests.paths import ROOT

MADE = {"date": "2026-01-31", "torch": "2.8.0", "device": "cpu (a CPU, 1 thread)", "runs": 2, "quick": False}
ROWS = [
    Row("phi", "B=2", "bare products", ms=[1.0, 1.5], peak_mb=3.2, sizes={"gflop": 0.5}),
    Row("phi", "B=2", "chunked", "bf16", ms=[4.0, 6.0], ratio=0.5, reference="reference", fraction=0.25, limit="bare"),
    Row("phi", "B=2", "reference", note="out of memory"),
    Row("segment", "photos", "equal", "bf16", figures={"equal_labels": 0.99, "equal_labels_of_the_worst": 0.9}),
    Row("growth", "texts", "chunked", ms=[2.0], peak_mb=5.0, sizes={"texts": 10}),
    Row("growth", "texts", "chunked", ms=[8.0], peak_mb=5.0, sizes={"texts": 20}),
]  # fmt: skip


def test_the_json_has_all_fields_and_is_read_back(tmp_path: Path) -> None:
    files = [*write_tables(tmp_path, ROWS, MADE), *write_charts(tmp_path, ROWS, MADE)]
    assert {path.name for path in files} == {"speed.json", "speed.md", "speed.png", "growth.png"}
    content = json.loads((tmp_path / "speed.json").read_text())
    assert (content["format"], content["version"], content["made"]) == ("pacl-speed", 1, MADE)
    fields = {field.name for field in dataclasses.fields(Row)}
    assert all(row.keys() == fields for row in content["rows"])
    assert read(tmp_path / "speed.json") == (ROWS, MADE)
    for name in ("speed.png", "growth.png"):
        assert min(Image.open(tmp_path / name).size) > 200


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"format": "pacl-results", "version": 1}', '{"format": "pacl-speed"}', "[" * 3000),
        '{"format": "pacl-speed", "version": 1, "rows": [], "made": {"date": "2030-01-02"}}',
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "speed.json").write_text(text)
    with pytest.raises(UserError, match=r"speed\.json"):
        read(tmp_path / "speed.json")


@pytest.mark.parametrize(
    "change",
    [
        {"method": 3}, {"ms": 2.0}, {"ms": [0.0]}, {"ms": ["1"]}, {"figures": []}, {"ratio": "1"}, {"peak_mb": 10**400},
        {"part": "growth", "sizes": {}}, {"figures": {"equal_labels": 0.5}},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_with_other_values_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_tables(tmp_path, ROWS[:1], MADE)
    content = json.loads((tmp_path / "speed.json").read_text())
    content["rows"][0] |= change
    (tmp_path / "speed.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"speed\.json"):
        read(tmp_path / "speed.json")


def test_cells() -> None:
    assert [len(cells(row)) for row in ROWS] == [len(HEADER)] * len(ROWS)
    assert cells(ROWS[1])[2:] == ["4.00", "50%", "-", "0.50 (reference)", "25% (bare)", "-"]
    assert cells(ROWS[1], named=False)[5:7] == ["0.50", "25%"]
    assert cells(ROWS[2])[2] == "out of memory"
    assert "99.00%" in cells(ROWS[3])[0]


def test_markdown_says_what_was_measured_and_that_quick_times_mean_nothing() -> None:
    text = markdown(ROWS, MADE)
    assert all(str(MADE[name]) in text for name in ("date", "torch", "device", "runs"))
    assert "| texts | chunked | 2.00 | 0.00 |" in text
    assert "--quick" not in text
    assert "--quick" in markdown(ROWS, {**MADE, "quick": True})


def test_growth_is_the_slope_between_logarithms() -> None:
    (curve,) = growth(ROWS)["texts"]
    assert (curve.x, curve.ms, curve.mb) == ([10, 20], [2.0, 8.0], [5.0, 5.0])
    assert exponent([1, 10, 100], [5, 50, 500]) == pytest.approx(1)
    assert exponent([2, 4], [3, 24]) == pytest.approx(3)
    assert exponent([1], [1]) is None
    assert exponent([1, 2], [0, 1]) is None


def test_the_page_repeats_the_measured_figures_and_divides_them() -> None:
    page, measured = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("speed.md", "speed-cpu.md"))
    on_a_cpu = page.partition("## On a CPU")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| ([\d,.]+) \|[^|]*\| ([\d,.]+) \| ([\d.]+) \|$", on_a_cpu, re.MULTILINE)
    assert len(rows) > 5
    for *times, ratio in rows:
        assert all(f"| {time} |" in measured for time in times)
        first, second = (float(time.replace(",", "")) for time in times)
        assert f"{first / second:.2f}" == ratio
