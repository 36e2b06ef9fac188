"""Gather results into one page of Markdown.

    python -m eval.report out --out report.md

A table a task, methods in rows and benchmarks in columns; a number in brackets after a figure leads to the note with
its protocol, its names and whatever was measured on a part of the split only. Published figures stand in tables of
their own. The same results give the same page.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.arguments import new_parser
from eval.benchmarks import BENCHMARKS
from eval.reproduce import published, segmentation_rows
from eval.result import Result, read_results
from pacl.errors import run_verb
from pacl.files import written_whole

TASKS = {
    "segmentation": "Mean IoU in percent, with its 95 % interval over images where there is one.",
    "classification": "Accuracy in percent, of the kind that the note names.",
    "retrieval": "Mean of R@1, R@5 and R@10 both ways, in percent.",
}
MAIN = {"segmentation": "miou", "classification": "top1", "retrieval": "mean recall"}
NONE = "-"
TOLD = ("name", "names", "changed", "source", "main", "annotations")
"""What a note says in words of its own, or not at all; all other settings follow it as they are."""


class Notes:
    """Numbered notes, each once, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, *notes: str) -> str:
        """Their numbers, such as ``[1] [3]``."""
        return " ".join(f"[{self.numbers.setdefault(note, len(self.numbers) + 1)}]" for note in notes if note)

    def lines(self) -> list[str]:
        """The notes, one a line."""
        return [f"- [{number}] {note}" for note, number in self.numbers.items()]


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    lines = ["# Results", "", *_caution(results)]
    for task in sorted({result.task for result in results}, key=_order(TASKS)):
        own = sorted((result for result in results if result.task == task), key=_key)
        lines += ["", f"## {task.capitalize()}", "", *_measured(task, own)]
        if rows := _published(task):
            lines += ["", "### Published by others", "", *rows]
        lines += ["", "### All figures", "", *_details(own)]
    return "\n".join(lines) + "\n"


def _caution(results: Sequence[Result]) -> list[str]:
    partial = sum(result.partial for result in results)
    said = [f"{len(results)} results" + (f", {partial} of them on a part of the split only" if partial else "") + "."]
    return [*said, "Figures of different protocols, lists of names or weights do not compare."]


def _measured(task: str, results: Sequence[Result]) -> list[str]:
    """Rows of methods, columns of benchmarks, and notes."""
    notes = Notes()
    datasets = sorted({result.dataset for result in results}, key=_order(BENCHMARKS))
    cells: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for result in results:
        figure = f"{_main(result)} {notes.mark(_protocol(result), _part(result))}"
        cells.setdefault(_row(result), {}).setdefault(result.dataset, []).append(figure)
    rows = [[*row, *("; ".join(own.get(name, [NONE])) for name in datasets)] for row, own in cells.items()]
    about = TASKS.get(task)
    return [
        *([about, ""] if about else []),
        *_table(["method", "model", "protocol", *datasets], rows),
        "",
        *notes.lines(),
    ]


def _published(task: str) -> list[str]:
    """The published figures of a task, with their sources."""
    sources: dict[str, str] = published()["sources"]
    notes = Notes()
    if task == "segmentation":
        every = segmentation_rows()
        names = [name for name in BENCHMARKS if any(name in row.scores for row in every)]
        rows = [
            [f"{row.title} {notes.mark(sources[row.source], row.assumed)}", row.backbone, row.setting]
            + [f"{row.scores[name]:.1f}" if name in row.scores else NONE for name in names]
            for row in every
        ]
        table = _table(["method", "image tower", "protocol", *names], rows)
    elif task in published():
        own: list[dict[str, Any]] = published()[task]
        names = list(dict.fromkeys(name for row in own for name in row["scores"]))
        rows = [
            [f"{row['title']} {notes.mark(sources[row['source']])}", "ViT-B/16"]
            + [f"{row['scores'][name]:.1f}" if name in row["scores"] else NONE for name in names]
            for row in own
        ]
        table = _table(["method", "image tower", *names], rows)
        said = {"classification": "Top-1 in percent, 80 templates.", "retrieval": "Mean of R@1 both ways, in percent."}
        table = [said[task], "", *table]
    else:
        return []
    return [*table, "", *notes.lines()]


def _details(results: Sequence[Result]) -> list[str]:
    """A row a result, with every score and what it cost."""
    scores = list(dict.fromkeys(name for result in results for name in result.scores))
    rows = [
        [
            *(result.dataset, result.split, *_row(result)),
            f"{result.images}" + (f" of {result.full or '?'}" if result.partial else ""),
            *(_number(result.scores.get(name, math.nan)) for name in scores),
            _number(result.speed.get("images_per_second", math.nan)),
            _number(result.speed.get("peak_memory_mb", math.nan), 0),
            *(result.made.get(key, NONE) for key in ("device", "date")),
        ]
        for result in sorted(results, key=lambda result: _order(BENCHMARKS)(result.dataset))
    ]
    header = ["data set", "split", "method", "model", "protocol", "images", *scores, "images/s", "peak MB"]
    return _table([*header, "device", "date"], rows)


def _row(result: Result) -> tuple[str, str, str]:
    """What makes a row of the table: method, model, and protocol with what was changed in it."""
    model = str(result.model.get("clip") or result.model.get("name"))
    patches = result.method in ("pacl", "phi", "mean", "pooled then phi") or result.method.startswith("probe patches")
    trained = ", trained head" if result.model.get("trained") and patches else ""
    dense = f", {result.model.get('dense')}" if patches else ""
    return result.method, f"{_tail(model)}{dense}{trained}", ", ".join(_protocol_words(result))


def _protocol_words(result: Result) -> list[str]:
    protocol = result.protocol
    words = [_tail(str(protocol.get("name", "?")))]
    if protocol.get("names"):
        words.append(f"names {_tail(str(protocol['names']))}")
    return words + [f"{key} {protocol.get(key)}" for key in protocol.get("changed") or () if key != "names"]


def _protocol(result: Result) -> str:
    """The note on a result's protocol: every setting."""
    protocol = result.protocol
    words = [f"protocol {_protocol_words(result)[0]}", *_protocol_words(result)[1:], f"split {result.split}"]
    if "annotations" in protocol:
        words.append(str(protocol["annotations"]))
    if "main" in protocol:
        words.append(f"the figure is {protocol['main']}")
    settings = [f"{key}={_value(value)}" for key, value in protocol.items() if key not in TOLD and value is not None]
    return ", ".join(words) + (f" ({', '.join(settings)})" if settings else "")


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else _tail(str(value))


def _part(result: Result) -> str:
    """The note on a part of a split; "" for the whole."""
    return f"subset: {result.images} of {result.full or 'an unknown number of'} images" if result.partial else ""


def _main(result: Result) -> str:
    """The figure of the first table."""
    names = [str(result.protocol.get("main")), MAIN.get(result.task, ""), *result.scores]
    name = next((name for name in names if name in result.scores), "")
    figure = _number(result.scores.get(name, math.nan))
    low, high = result.intervals.get(name, (None, None))
    return figure if low is None or high is None else f"{figure} ({low:.1f} to {high:.1f})"


def _number(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def _tail(name: str) -> str:
    """Of a path, its last two parts: where a folder lies says nothing about the result."""
    scheme, _, path = name.rpartition(":")
    if not Path(path).is_absolute():
        return name
    return (f"{scheme}:" if scheme else "") + "/".join(Path(path).parts[-2:])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Markdown; a bar in a cell would end it."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines]


def _order(known: Iterable[str]) -> Any:
    """A key that sorts by the place in a list; what is not in it comes after, by name."""
    places = {name: i for i, name in enumerate(known)}
    return lambda name: (places.get(name, len(places)), name)


def _key(result: Result) -> tuple[Any, ...]:
    place = _order(BENCHMARKS)(result.dataset)
    rest = (result.protocol, result.scores, result.speed, result.made)
    return *_row(result), *place, result.split, result.images, [str(sorted(map(str, each.items()))) for each in rest]


def build_parser() -> argparse.ArgumentParser:
    """The command's words and flags."""
    parser = new_parser("report", __doc__)
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="results.json files, or folders with some below")
    parser.add_argument("--out", metavar="FILE", type=Path, help="file for the page (default: the terminal)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read, gather, write."""
    args = build_parser().parse_args(argv)
    text = page(read_results(args.results))
    if args.out is None:
        print(text, end="")
        return 0
    with written_whole(args.out) as aside:
        aside.write_text(text, encoding="utf-8")
    print(args.out)
    return 0


if __name__ == "__main__":
    run_verb("eval.report", main)
