"""What the tables of classification say: the score that counts, how sure it is, parts as such, settings in words."""

from __future__ import annotations

import io

from rich.console import Console

from eval.classification.tables import markdown, protocol_words, summary
from eval.common.result import Result


def a_result(**changes) -> Result:
    values = {
        "task": "classification", "dataset": "oxford_pets", "split": "test", "images": 3669, "full": 3669,
        "method": "phi", "model": {"name": "bundled", "clip": "bundled", "checksum": "ab", "dense": "value"},
        "protocol": {"name": "zero-shot", "names": "clip", "main": "mean_per_class", "limit": None, "cut": False},
        "scores": {"top1": 1.0, "top5": 2.0, "mean_per_class": 3.04}, "intervals": {"mean_per_class": [2.0, 4.0]},
    }  # fmt: skip
    return Result(**{**values, **changes})


PROBE = a_result(
    dataset="a|b", method="probe pooled 4", images=6, full=12, intervals={},
    details={"deviation": {"mean_per_class": 0.26}},
    protocol={
        "name": "few-shot", "names": None, "shots": 4, "seeds": [0, 1, 2], "main": "mean_per_class", "limit": 6,
    },
)  # fmt: skip
RESULTS = [a_result(), PROBE, a_result(method="probe pooled all", intervals={}, details={"deviation": {"top1": None}})]


def test_markdown():
    lines = markdown(RESULTS).splitlines()
    assert lines[2:7] == [
        "| data set | images | method | top-1 | top-5 | per class |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| oxford_pets test | 3,669 | phi | 1.0 | 2.0 | **3.0** (2.0-4.0) |",
        "| a\\|b test | 6/12 | probe pooled 4 | 1.0 | 2.0 | **3.0** ± 0.3 |",
        "| oxford_pets test | 3,669 | probe pooled all | 1.0 | 2.0 | **3.0** |",
    ]
    assert "- Model: bundled (weights ab, dense variant value, no trained head)." in lines
    said = "zero-shot; class names: clip; the literature gives mean per class; cut no"
    assert f"- oxford_pets, phi: {said}." in lines


def test_settings_are_told_as_people_write_them():
    assert protocol_words(PROBE.protocol) == (
        "few-shot; 4 training pictures a class; mean over the draws of seeds 0, 1 and 2; "
        "the literature gives mean per class; 6 of them at equal distances"
    )
    assert protocol_words({"shots": "all", "seeds": [3]}) == "all training pictures; drawn by seed 3"


def test_on_the_terminal():
    console = Console(width=80, file=io.StringIO())
    console.print(summary(RESULTS))
    text = console.file.getvalue()
    assert "Oxford-IIIT Pet test" in text
    assert "6/12" in text
    assert "3.0 (2.0-4.0)" in text
    assert "3.0 ± 0.3" in text
    assert "95 % interval over pictures, or ± the standard deviation over draws" in " ".join(text.split())
