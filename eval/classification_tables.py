"""Results of classifiers as a table: on the terminal, and as Markdown with all that decides the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from eval.image_sets import IMAGE_BENCHMARKS
from eval.result import Result
from eval.tables import markdown_table

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """A line of the tables."""

    dataset: str
    images: str
    method: str
    top1: str
    top5: str
    mean_per_class: str
    interval: str


def rows(results: Sequence[Result], bold: str) -> list[Row]:
    """The results in words; ``bold`` marks the score that the literature gives, with its value in place of ``{}``."""
    found = []
    for result in results:
        scores = {name: f"{result.scores[name]:.1f}" for name in ("top1", "top5", "mean_per_class")}
        main = result.protocol["main"]
        low, high = result.intervals.get(main, (math.nan, math.nan))
        scores["interval"] = "" if math.isnan(low) else f"{low:.1f}-{high:.1f}"
        scores[main] = bold.format(scores[main])
        images = f"{result.images:,}" if not result.partial or result.full is None else (
            f"{result.images:,}/{result.full:,}"
        )  # fmt: skip
        found.append(Row(f"{result.dataset} {result.split}", images, result.method, **scores))
    return found


HEADS = ("data set", "images", "method", "top-1", "top-5", "per class", "95 %")
FIGURES = range(3, len(HEADS))


def markdown(results: Sequence[Result]) -> str:
    """A table, the literature's score in bold with its 95 % interval, and how it was measured."""
    cells = [list(asdict(row).values()) for row in rows(results, "**{}**")]
    first = results[0]
    model = ", ".join(f"{key} {value}" for key, value in first.model.items())
    lines = [
        "# Classification",
        "",
        markdown_table(HEADS, cells, FIGURES),
        "",
        f"Percent; in bold what the literature gives for the data set, with its 95 % interval. Model: {model}.",
        "",
    ]
    stated: dict[str, None] = {}
    for result in results:
        said = ", ".join(f"{key} {value}" for key, value in result.protocol.items())
        stated[f"- {result.dataset}, {result.method}: {said}"] = None
    return "\n".join([*lines, *stated]) + "\n"


def summary(results: Sequence[Result]) -> Table:
    """The table for the terminal."""
    from rich import box
    from rich.table import Table

    titles = {name: benchmark.title for name, benchmark in IMAGE_BENCHMARKS.items()}
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, head in enumerate(HEADS):
        found.add_column(head, justify="right" if i in FIGURES else "left", no_wrap=True)
    last = ""
    for row, result in zip(rows(results, "{}"), results, strict=True):
        if last not in ("", result.dataset):
            found.add_section()
        last = result.dataset
        values = asdict(row)
        values["dataset"] = f"{titles.get(result.dataset, result.dataset)} {result.split}"
        values[result.protocol["main"]] = f"[bold]{values[result.protocol['main']]}[/]"
        found.add_row(*values.values())
    return found
