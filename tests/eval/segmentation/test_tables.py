import csv
import dataclasses
import io
import math
from typing import Any

import pytest
from rich.console import Console

from eval.common.result import Result, read_results, write_results
from eval.segmentation.tables import csv_rows, extent, markdown, summary, titles_of, write_csv
from pacl.errors import UserError

PROTOCOL = {"name": "naclip", "names": "sclip", "size": 336, "window": None, "changed": ["size"], "dilations": (8, 16)}


def result(method: str, miou: float, **changes: Any) -> Result:
    made = Result(
        task="segmentation",
        dataset="voc21",
        split="val",
        images=43,
        full=1449,
        method=method,
        model={"name": "bundled", "dense": method, "trained": False},
        protocol=PROTOCOL,
        scores={"miou": miou, "pixel_accuracy": 81.25, "mean_accuracy": math.nan},
        intervals={"miou": [miou - 2, miou + 1.55]},
        details={
            "classes": ["background", "cat", "rail|road"],
            "iou": [miou, None, 1.0],
            "accuracy": [75.0, math.nan, 1 / 3],
            "classes_counted": 2,
        },
        speed={"images_per_second": 3.214, "peak_memory_mb": 12345.6},
        made={"torch": "2.9"},
    )
    return dataclasses.replace(made, **changes)


def printed(results: list[Result], width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(summary(results))
    return file.getvalue()


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_terminal():
    found = lines(printed([result("naclip", 33.0), result("clip", 13.04)]))
    assert "naclip 33.0 31.0-34.5 81.2 -" in found
    assert "clip 13.0 11.0-14.6 81.2 -" in found
    assert "3.21 images/s, peak memory 12,346 MB" in found
    assert "model bundled (no trained head)" in found
    assert "43 of 1,449 images: a subset" in found
    assert "the labels show 2 of 3 classes; the mean covers 2" in found
    assert "protocol naclip (changed: size), names sclip" in found


def test_narrow_terminals_keep_the_figures():
    extra = {"boundary_miou": 12.34, "patch_accuracy": 100.0, "upper_bound_miou": 88.88}
    more = result("[red]a long name of a method", 33.0)
    more = dataclasses.replace(more, scores={**more.scores, **extra})
    assert "33.0 31.0-34.5 81.2 - 12.3 100.0 88.9" in " ".join(lines(printed([more], width=74)))
    assert "[red]a long name of a method 33.0 31.0-34.5" in " ".join(lines(printed([more], width=120)))


def test_markdown():
    text = markdown([result("naclip", 33.0), result("clip", 13.04)])
    assert text.splitlines()[:6] == [
        "## voc21 val",
        "",
        "| method | mIoU | 95% interval | pixel acc. | mean acc. |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| naclip | **33.0** | 31.0-34.5 | 81.2 | - |",
        "| clip | 13.0 | 11.0-14.6 | 81.2 | - |",
    ]
    assert "- 43 of 1,449 images: a subset\n- the labels show 2 of 3 classes; the mean covers 2\n" in text
    assert "- protocol naclip (changed: size), names sclip; size 336; window none; dilations 8/16\n" in text
    assert "- model bundled; trained no\n" in text  # the dense variant is the method
    assert "- images per second 3.21; peak memory mb 12,346\n" in text
    assert text.endswith(
        "| class | naclip | clip |\n| --- | ---: | ---: |\n"
        "| background | 33.0 | 13.0 |\n| cat | - | - |\n| rail\\|road | 1.0 | 1.0 |\n"
    )


def test_optional_scores_have_columns_where_a_row_has_them():
    with_boundary = result("naclip", 33.0)
    with_boundary.scores.update(boundary_miou=20.0, patch_accuracy=55.5, upper_bound_miou=77.7)
    bare = result("clip", 13.0, speed={}, intervals={})
    rows = markdown([with_boundary, bare]).splitlines()[2:6]
    columns = "method | mIoU | 95% interval | pixel acc. | mean acc. | boundary mIoU | patch acc. | patch bound"
    assert rows[0] == f"| {columns} |"
    assert rows[3] == "| clip | 13.0 | - | 81.2 | - | - | - | - |"
    assert markdown([bare]).splitlines()[2] == "| method | mIoU | pixel acc. | mean acc. |"


def test_a_score_without_a_title_is_shown_under_its_own_name():
    more = result("naclip", 33.0, scores={"weighted_iou": 44.44, "miou": 33.0})
    assert markdown([more]).splitlines()[2] == "| method | mIoU | 95% interval | weighted iou |"
    assert "44.4" in printed([more])


def test_means_over_different_classes_are_named():
    other = {**result("clip", 1.0).details, "iou": [1.0, 0.0, 1.0], "classes_counted": 3}
    remark = "cover different classes"
    assert remark in printed([result("naclip", 33.0), result("clip", 1.0, details=other)], width=200)
    assert remark not in printed([result("naclip", 33.0), result("clip", 1.0)], width=200)


def test_what_differs_is_said_with_its_rows():
    details = {**result("pacl", 1.0).details, "classes_counted": 3}
    text = markdown(
        [
            result("naclip", 33.0),
            result("clip", 13.0, protocol={**PROTOCOL, "names": "plain"}),
            result("pacl", 20.0, details=details),
        ]
    )
    assert "- naclip (sclip names), clip (plain names): the labels show 2 of 3 classes; the mean covers 2\n" in text
    pacl = "the labels show 2 of 3 classes; the mean covers 3, 1 of them predicted only, with IoU 0"
    assert f"- pacl (sclip names): {pacl}\n" in text
    assert "- clip (plain names): protocol naclip (changed: size), names plain; size 336" in text


@pytest.mark.parametrize(
    ("images", "full", "said"),
    [
        (43, 1449, "43 of 1,449 images: a subset"),
        (1449, 1449, "all 1,449 images"),
        (1, 1, "all 1 image"),
        (1200, None, "1,200 images, of a split of unknown size"),
    ],
)
def test_extent(images, full, said):
    assert extent(result("clip", 1.0, images=images, full=full)) == said


def test_titles_tell_rows_apart():
    assert titles_of([result("clip", 1.0), result("pacl", 2.0)]) == ["clip", "pacl"]
    plain = {**PROTOCOL, "names": "own/plain.txt"}
    two = [result("clip", 1.0), result("clip", 2.0, protocol=plain)]
    assert titles_of(two) == ["clip (sclip names)", "clip (plain names)"]
    other = {**PROTOCOL, "name": "tcl"}
    two = [result("clip", 1.0), result("clip", 2.0, protocol=other)]
    assert titles_of(two) == ["clip (naclip protocol)", "clip (tcl protocol)"]
    files = [result("clip", 1.0, protocol={**plain, "names": f"{folder}/voc.txt"}) for folder in "ab"]
    assert titles_of(files) == ["clip (a/voc.txt names)", "clip (b/voc.txt names)"]


def test_csv(tmp_path):
    results = [result("naclip", 33.0), result("clip", 13.04)]
    write_csv(tmp_path / "new" / "classes.csv", results)
    with open(tmp_path / "new" / "classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == csv_rows(results)
    assert rows == [
        ["class", "naclip IoU", "naclip accuracy", "clip IoU", "clip accuracy"],
        ["background", "33.0000", "75.0000", "13.0400", "75.0000"],
        ["cat", "", "", "", ""],
        ["rail|road", "1.0000", "0.3333", "1.0000", "0.3333"],
    ]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_csv(tmp_path / "file" / "classes.csv", results)


def test_results_from_a_file_say_the_same(tmp_path):
    results = [result("naclip", 33.0), result("clip", math.nan, intervals={"miou": [math.nan, math.nan]})]
    write_results(tmp_path, results)
    again = read_results(tmp_path)
    assert markdown(again) == markdown(results)
    assert printed(again) == printed(results)
    assert csv_rows(again) == csv_rows(results)
    assert "| clip | - | - | 81.2 |" in markdown(again)


def test_two_benchmarks_are_no_table():
    with pytest.raises(ValueError, match="not of 2"):
        markdown([result("clip", 1.0), result("clip", 1.0, dataset="voc20")])
