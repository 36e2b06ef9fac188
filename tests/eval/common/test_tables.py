"""Tables in Markdown and on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eval.common.tables import markdown_table, terminal_table


def test_columns_and_alignment():
    found = markdown_table(["method", "mIoU", "date"], [["naclip", "41.2", "today"]], right=[1])
    assert found.splitlines() == ["| method | mIoU | date |", "| --- | ---: | --- |", "| naclip | 41.2 | today |"]


def test_what_would_break_the_table():
    found = markdown_table(["a|b"], [["two\nlines"], [""]])
    assert found.splitlines() == ["| a\\|b |", "| --- |", "| two lines |", "|  |"]


def test_a_row_of_another_length_is_a_mistake():
    with pytest.raises(ValueError, match="2 columns, but 1 cells"):
        markdown_table(["a", "b"], [["1"]])


def test_bold_cells_and_narrow_terminals():
    rows = [["a [long] name of a method", "**41.25**"], ["b", "7.5"]]
    table = terminal_table(["method", "mIoU"], rows, right=[1], title="voc20", caption="percent", sections=[1])
    console = Console(width=20, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text(clear=False)
    assert "41.25" in text
    assert "[long]" in text
    assert "**" not in text
    assert "\x1b[1m41.25" in console.export_text(styles=True)
