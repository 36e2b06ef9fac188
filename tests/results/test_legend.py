"""The small print: percentages, names that are too long, what was not found."""

from __future__ import annotations

import pytest

from pacl.results import legend


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.00001, "<0.01 %"), (0.0004, "0.04 %"), (0.031, "3.1 %"), (0.42, "42.0 %"), (0.9999, "100 %"), (1.0, "100 %")],
)
def test_percent(share: float, text: str) -> None:
    assert legend._percent(share) == text


def test_ellipsis_fits() -> None:
    font = legend.typeface([])(20)
    text = legend.ellipsis("a rather long label", 100, font)
    assert text.startswith("a rat")
    assert text.endswith("...")
    assert font.getlength(text) <= 100
    assert legend.ellipsis("dog", 100, font) == "dog"


def test_tail_says_how_many_more() -> None:
    font = legend.typeface([])(20)
    assert legend._tail([], 400, font) == []
    assert " ".join(legend._tail(["cat", "dog"], 400, font)) == "absent: cat, dog"
    lines = legend._tail([f"label{i}" for i in range(100)], 400, font)
    assert len(lines) <= 4
    named = " ".join(lines).count("label")
    assert " ".join(lines).endswith(f"and {100 - named} more")


def test_no_letter_is_cut_below() -> None:
    panel = legend._legend(
        400, 20, [("dog", 0.5, (40, 80, 200)), ("gjpqy", 0.5, (200, 80, 40))], [], legend.typeface([])
    )
    lowest = panel.crop((0, panel.height - 1, panel.width, panel.height))
    assert lowest.getcolors() == [(panel.width, legend.PAPER)]
