"""One page from many results: the same page each time, with every figure and all its settings."""

from __future__ import annotations

import math

import pytest

from eval.common.result import read_results, write_results
from eval.report import run as report
from pacl.errors import ArgumentError, UserError
from tests.eval.results import a_result, classified


def section(text: str, title: str) -> list[str]:
    """The lines under a heading, to the next one."""
    lines = text.splitlines()
    start = lines.index(title) + 1
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("#")), len(lines))
    return [line for line in lines[start:end] if line]


def test_scores_that_are_null(tmp_path):
    """A figure that was not finite is null in the file; it becomes a dash."""
    blank = a_result(scores={"miou": math.nan}, intervals={"miou": [math.nan, math.nan]})
    write_results(tmp_path, [blank, a_result()])
    text = report.page(read_results(tmp_path))
    assert "41.2" in text
    assert "nan" not in text
    assert "None" not in text


def test_a_table_for_each_kind_of_figure_there_is():
    retrieval = a_result(task="retrieval", dataset="coco", scores={"i2t R@1": 5.0, "t2i R@1": 4.0})
    found = report.page([retrieval, classified(), a_result(scores={"patch_accuracy": 50.0}), a_result(images=3)])
    assert [line for line in found.splitlines() if line.startswith("#")] == [
        "# Results",
        *("## Segmentation", "### Mean IoU", "### Patch classification", "### All figures"),
        *("## Classification", "### Accuracy", "### All figures"),
        *("## Retrieval", "### Recall", "### All figures"),
    ]
    assert "4 results, 1 of them on a part of the split only." in found
    assert section(found, "### Mean IoU")[0] == "Percent, with the 95 % interval over images."
    assert any("59.1" in line for line in section(report.page([a_result(dataset="voc21")]), "### Mean IoU"))


def test_every_score_with_its_settings_and_what_it_cost():
    header, rule, row, note = section(report.page([a_result(images=43)]), "### All figures")
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert (cells["protocol, names"], cells["settings"], cells["images"]) == ("sclip, names sclip", "[1]", "43 of 1449")
    assert (cells["miou"], cells["pixel_accuracy"]) == ("41.2", "60.0")
    assert (cells["images/s"], cells["peak MB"], cells["device"]) == ("2.5", "900", "cpu")
    assert rule.count("---:") == 5
    assert note == "- [1] protocol sclip, names sclip (size=336)"


def test_no_folder_of_the_user_is_on_the_page():
    result = a_result(model={"clip": "local-dir:/home/me/runs/mine/clip"}, protocol={"names": "/home/y/n.txt"})
    assert "/home" not in report.page([result])


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
    with pytest.raises(UserError, match=r"results\.json"):
        report.main([str(tmp_path)])
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"\.json"):
        report.main([str(tmp_path)])


def test_the_page_never_replaces_results_or_other_files(tmp_path):
    write_results(tmp_path, [a_result()])
    other = tmp_path / "notes.md"
    other.write_text("# Notes\n")
    for path in (tmp_path / "results.json", other, tmp_path):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(ArgumentError):
            report.main([str(tmp_path), "--out", str(path)])
        assert (path.read_bytes() if path.is_file() else b"") == before
    for _ in range(2):  # a page is replaced
        assert report.main([str(tmp_path), "--out", str(tmp_path / "page.md")]) == 0
