"""One page from many results: every figure with its protocol, a part of a split marked, the same page each time."""

from __future__ import annotations

import math

import pytest

from eval import report
from eval.result import Result, write_results
from pacl.errors import UserError


def a_result(**changes) -> Result:
    values = {
        "task": "segmentation", "dataset": "voc20", "split": "val", "images": 1449, "full": 1449, "method": "sclip",
        "model": {"name": "auto", "clip": "bundled", "dense": "sclip", "trained": False},
        "protocol": {"name": "sclip", "names": "sclip", "size": 336, "window": None, "changed": []},
        "scores": {"miou": 41.25, "pixel_accuracy": 60.0}, "speed": {"images_per_second": 2.5, "peak_memory_mb": 900.4},
        "made": {"date": "2030-01-02", "device": "cpu"},
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return Result(**values)


def section(text: str, title: str) -> list[str]:
    """The lines under a heading, to the next one."""
    lines = text.splitlines()
    start = lines.index(title) + 1
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("#")), len(lines))
    return [line for line in lines[start:end] if line]


def test_rows_columns_and_notes():
    found = report.page(
        [
            a_result(),
            a_result(dataset="ade150", images=3, full=2000, intervals={"miou": [1.0, 2.04]}, scores={"miou": 1.5}),
            a_result(protocol={"names": "plain", "changed": ["names"]}, scores={"miou": 30.0}),
        ]
    )
    assert section(found, "## Segmentation") == [
        "Mean IoU in percent, with its 95 % interval over images where there is one.",
        "| method | model | protocol | voc20 | ade150 |",
        "| --- | --- | --- | --- | --- |",
        "| sclip | bundled | sclip, names plain | 30.0 [1] | - |",
        "| sclip | bundled | sclip, names sclip | 41.2 [2] | 1.5 (1.0 to 2.0) [2] [3] |",
        "- [1] protocol sclip, names plain, split val (size=336)",
        "- [2] protocol sclip, names sclip, split val (size=336)",
        "- [3] subset: 3 of 2000 images",
    ]
    assert "3 results, 1 of them on a part of the split only." in found


def test_changed_settings_are_another_row():
    found = report.page([a_result(), a_result(protocol={"size": 448, "changed": ["size"]}, scores={"miou": 43.0})])
    table = section(found, "## Segmentation")
    assert "| sclip | bundled | sclip, names sclip, size 448 | 43.0 [2] |" in table
    assert "| sclip | bundled | sclip, names sclip | 41.2 [1] |" in table


def test_published_figures_stand_apart():
    found = report.page([a_result()])
    assert not any("59.1" in line for line in section(found, "## Segmentation"))
    rows = section(found, "### Published by others")
    (sclip,) = (line for line in rows if line.startswith("| SCLIP"))
    assert "| 80.4 | 59.1 | 34.2 | 30.4 | 22.4 | 30.5 | 16.1 | 32.2 |" in sclip  # in the order of the benchmarks
    (pacl,) = (line for line in rows if line.startswith("| PACL"))
    assert "undocumented" in pacl
    assert any("arXiv 2212.04994" in line for line in rows)


def test_every_score_and_what_it_cost():
    (header, _, row) = section(report.page([a_result(images=43)]), "### All figures")
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert cells["images"] == "43 of 1449"
    assert (cells["miou"], cells["pixel_accuracy"]) == ("41.2", "60.0")
    assert (cells["images/s"], cells["peak MB"]) == ("2.5", "900")


def test_other_tasks_have_their_own_figures():
    retrieval = {
        "task": "retrieval",
        "dataset": "coco",
        "method": "phi",
        "scores": {"i2t R@1": 5.0, "mean recall": 9.0},
    }
    pets = {
        **{"task": "classification", "dataset": "oxford_pets", "method": "mean"},
        "protocol": {"name": "zero-shot", "main": "mean_per_class"},
        "scores": {"top1": 1.0, "mean_per_class": 2.0},
    }
    found = report.page([a_result(**retrieval), a_result(**pets), a_result()])
    titles = [line for line in found.splitlines() if line.startswith("## ")]
    assert titles == ["## Segmentation", "## Classification", "## Retrieval"]
    assert "| mean | bundled, sclip | zero-shot, names sclip | 2.0 [1] |" in section(found, "## Classification")
    assert any("the figure is mean_per_class" in line for line in section(found, "## Classification"))
    assert "| phi | bundled, sclip | sclip, names sclip | 9.0 [1] |" in section(found, "## Retrieval")


def test_a_trained_head_says_so():
    found = report.page([a_result(method="pacl", model={"trained": True, "dense": "value"})])
    assert "| pacl | bundled, value, trained head |" in found


def test_what_is_no_number_and_what_would_break_the_table():
    found = report.page([a_result(scores={"miou": math.nan}, model={"clip": "a|b"})])
    assert "| sclip | a\\|b | sclip, names sclip | - [1] |" in found


def test_folders_are_named_by_their_ends():
    found = report.page(
        [a_result(model={"clip": "local-dir:/home/me/runs/mine/clip"}, protocol={"names": "/x/y/n.txt"})]
    )
    assert "| local-dir:mine/clip | sclip, names y/n.txt |" in found
    assert "/home" not in found


def test_the_order_of_the_files_does_not_matter(tmp_path, capsys):
    results = [a_result(), a_result(dataset="ade150"), a_result(method="clip"), a_result(scores={"miou": 1.0})]
    write_results(tmp_path / "a", results[:2])
    write_results(tmp_path / "b", results[2:])
    pages = []
    for names in ("ab", "ba"):
        assert report.main([*(str(tmp_path / name) for name in names), "--out", str(tmp_path / "page.md")]) == 0
        pages.append((tmp_path / "page.md").read_text())
    assert pages[0] == pages[1]
    capsys.readouterr()
    assert report.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == pages[0]


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no results"):
        report.main([str(tmp_path)])
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match="is not a file of results"):
        report.main([str(tmp_path)])
