"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A table without a line's end after it.

    Args:
        header: the columns' titles.
        rows: of each row the cells, as many.
        right: numbers, from 0, of the columns that are aligned to the right.
    """
    rule = ["---:" if i in right else "---" for i in range(len(header))]
    lines = [header, rule, *rows]
    if wrong := next((line for line in lines if len(line) != len(header)), None):
        raise ValueError(f"{len(header)} columns, but {len(wrong)} cells: {wrong}")
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    """A bar would end the cell, a line's end the table."""
    return " ".join(cell.splitlines()).replace("|", "\\|")
