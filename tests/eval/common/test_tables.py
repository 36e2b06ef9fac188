"""Markdown as a reader of tables takes it: as many cells in every line, whatever is in them."""

from __future__ import annotations

import pytest

from eval.common.tables import markdown_table


def test_columns_and_alignment():
    found = markdown_table(["method", "mIoU", "date"], [["naclip", "41.2", "today"]], right=[1])
    assert found.splitlines() == ["| method | mIoU | date |", "| --- | ---: | --- |", "| naclip | 41.2 | today |"]


def test_what_would_break_the_table():
    found = markdown_table(["a|b"], [["two\nlines"], [""]])
    assert found.splitlines() == ["| a\\|b |", "| --- |", "| two lines |", "|  |"]


def test_a_row_of_another_length_is_a_mistake():
    with pytest.raises(ValueError, match="2 columns, but 1 cells"):
        markdown_table(["a", "b"], [["1"]])
