"""Gather results into one page of Markdown, next to the published figures.

    python -m eval.report out --out report.md

A table for each kind of figure: measured rows first, published ones below, benchmarks in columns. Every row states its
image tower, protocol and list of class names; numbers in brackets refer to notes on subsets, changed settings, and
undocumented protocols. The same results give the same page.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.common.command import new_parser
from eval.common.result import Result, read_results
from eval.common.tables import markdown_table
from eval.report.describe import (
    DATASETS,
    NONE,
    Notes,
    data_of,
    identity,
    names_of,
    number,
    order,
    protocol_parts,
    settings,
    tower,
)
from eval.report.tables import KINDS, MEASURED, Row, table
from pacl.cli.messages import need_output
from pacl.files import atomic_write, begins_with, check_output_file
from pacl.printing import counted, escaped

TITLE = "# Results"
PAGE = TITLE.encode() + rb"\s+[\d,]+ results?"
"""How a page begins."""
TASKS = tuple(dict.fromkeys(kind.task for kind in KINDS))


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    partial = sum(result.partial for result in results)
    some = f", {partial} of them on a part of the split only" if partial else ""
    parts = [
        TITLE,
        f"{counted(len(results), 'result')}{some}. Two figures compare only where image tower, protocol, names "
        "and split are the same and no note says otherwise.",
    ]
    for task in sorted({result.task for result in results}, key=order(TASKS)):
        own = sorted((result for result in results if result.task == task), key=_key)
        parts.append(f"## {task.capitalize()}")
        for kind in KINDS:
            if kind.task == task and (found := table(kind, own)):
                parts += [f"### {kind.title}", kind.about, *found]
        parts += ["### All figures", *_details(own)]
    return "\n\n".join(parts) + "\n"


def _details(results: Sequence[Result]) -> list[str]:
    """A row for each result, with all scores, settings, time and memory."""
    notes = Notes()
    scores = list(dict.fromkeys(name for result in results for name in result.scores))
    header = ["data set", "split", "method", "image tower", "protocol, names", "settings", "images", *scores]
    header += ["images/s", "peak MB", "device", "date"]
    rows = []
    for result in sorted(results, key=lambda result: order(DATASETS)(result.dataset)):
        row = Row(result.method, MEASURED, tower(result), protocol_parts(result))
        row.add(data_of(result), names_of(result), "", "")
        method, _, clip, protocol = row.cells([])
        rows.append(
            [
                *(data_of(result), result.split, method, clip, protocol, notes.mark(settings(result))),
                f"{result.images}" + (f" of {result.full or '?'}" if result.partial else ""),
                *(number(result.scores.get(name, math.nan)) for name in scores),
                number(result.speed.get("images_per_second", math.nan)),
                number(result.speed.get("peak_memory_mb", math.nan), 0),
                *(result.made.get(key, NONE) for key in ("device", "date")),
            ]
        )
    figures = range(header.index("images"), header.index("device"))
    return [markdown_table(header, rows, figures), "\n".join(notes.lines())]


def _key(result: Result) -> tuple[Any, ...]:
    place = order(DATASETS)(result.dataset)
    rest = (result.protocol, result.scores, result.speed, result.made)
    return *identity(result), *place, result.split, result.images, [str(sorted(map(str, x.items()))) for x in rest]


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = new_parser("eval.report", __doc__)
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results.json files, or folders that hold some")
    parser.add_argument("--out", metavar="FILE", type=Path, help="file for the page (default: the terminal)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read, gather, write."""
    args = build_parser().parse_args(argv)
    results = read_results(args.results)
    if args.out is None:
        need_output()
    else:
        check_output_file(args.out, begins_with(PAGE), inputs=args.results)
    text = page(results)
    if args.out is None:
        print(text, end="")
        return 0
    with atomic_write(args.out) as aside:
        aside.write_text(text, encoding="utf-8")
    print(escaped(args.out))
    return 0
