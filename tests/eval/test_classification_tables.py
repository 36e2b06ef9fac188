"""What the tables of classification say: the score that counts, its interval where there is one, parts as such."""

from __future__ import annotations

import io

from rich.console import Console

from eval.classification_tables import markdown, summary
from eval.result import Result


def a_result(**changes) -> Result:
    values = {
        "task": "classification", "dataset": "oxford_pets", "split": "test", "images": 3669, "full": 3669,
        "method": "phi", "model": {"clip": "bundled"}, "protocol": {"name": "zero-shot", "main": "mean_per_class"},
        "scores": {"top1": 1.0, "top5": 2.0, "mean_per_class": 3.04}, "intervals": {"mean_per_class": [2.0, 4.0]},
    }  # fmt: skip
    return Result(**{**values, **changes})


RESULTS = [a_result(), a_result(dataset="a|b", method="probe pooled 4", images=6, full=12, intervals={})]


def test_markdown():
    lines = markdown(RESULTS).splitlines()
    assert lines[2:6] == [
        "| data set | images | method | top-1 | top-5 | per class | 95 % |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| oxford_pets test | 3,669 | phi | 1.0 | 2.0 | **3.0** | 2.0-4.0 |",
        "| a\\|b test | 6/12 | probe pooled 4 | 1.0 | 2.0 | **3.0** |  |",
    ]
    assert "- oxford_pets, phi: name zero-shot, main mean_per_class" in lines


def test_on_the_terminal():
    console = Console(width=120, file=io.StringIO())
    console.print(summary(RESULTS))
    text = console.file.getvalue()
    assert "Oxford-IIIT Pet test" in text
    assert "6/12" in text
    assert "2.0-4.0" in text
