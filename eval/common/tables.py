"""Tables of results, on the terminal and in Markdown, from the same cells.

A cell is plain text, or ``**bold**``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A table in Markdown, without a line break at its end.

    Args:
        header: titles of the columns.
        rows: cells, as many in each row as there are columns.
        right: numbers, from 0, of the right-aligned columns.

    Raises:
        ValueError: a row of another length.
    """
    rule = ["---:" if i in right else "---" for i in range(len(header))]
    lines = [header, rule, *rows]
    if wrong := next((line for line in lines if len(line) != len(header)), None):
        raise ValueError(f"{len(header)} columns, but {len(wrong)} cells: {wrong}")
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    """A cell without line breaks and with escaped bars, which would end the row or the cell."""
    return " ".join(cell.splitlines()).replace("|", "\\|")


def terminal_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Container[int] = (), *,
    title: str = "", caption: str = "", sections: Container[int] = (),
) -> Table:  # fmt: skip
    """A table for the terminal; where that is narrow, left-aligned columns are wrapped and figures stay complete.

    Args:
        header, rows, right: as in `markdown_table`; a title of a column may have several lines.
        title: above the table.
        caption: below the table.
        sections: numbers of the rows that a line separates from the row before.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None, title_justify="left", caption=Text(caption) if caption else None,
        caption_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for i, name in enumerate(header):
        cells = [*name.split("\n"), *(row[i].replace("**", "") for row in rows)]
        least = max(map(len, cells)) if i in right else None
        table.add_column(Text(name), justify="right" if i in right else "left", min_width=least, overflow="fold")
    for i, row in enumerate(rows):
        if i in sections:
            table.add_section()
        table.add_row(*map(_styled, row))
    return table


def _styled(cell: str) -> Text:
    from rich.text import Text

    return Text().join(Text(part, style="bold" if i % 2 else "") for i, part in enumerate(cell.split("**")))
