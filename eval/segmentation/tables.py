"""Results of one benchmark as tables: on the terminal, in Markdown, and in CSV with a line for each class.

Each table states what its figures mean: the number of images, the classes that the mean covers, and every setting of
the protocol. What all rows share is stated once, the rest for the rows that it applies to.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.common.result import Result
from eval.common.tables import markdown_table, terminal_table
from pacl.files import atomic_write
from pacl.printing import counted

if TYPE_CHECKING:
    from rich.console import Group

# Titles of scores in the order of their columns. One that lacks a title here comes last, under its own name.
SCORES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel acc.",
    "mean_accuracy": "mean acc.",
    "boundary_miou": "boundary mIoU",
    "patch_accuracy": "patch acc.",
    "upper_bound_miou": "patch bound",
}
INTERVAL, NONE = "95% interval", "-"
WORDS = ("method", "names", "class")


def titles_of(results: Sequence[Result]) -> list[str]:
    """A distinct title for each row: its method and, where they differ, its names and its protocol."""
    parts: list[list[str]] = [[] for _ in results]
    for key in ("names", "name"):
        values = [str(result.protocol.get(key, "")) for result in results]
        short = {value: Path(value).stem for value in values}
        if len(set(short.values())) < len(short):  # files of one name in several folders
            short = {value: value for value in values}
        if len(short) > 1:
            for part, value in zip(parts, values, strict=True):
                part.append(f"{short[value]} names" if key == "names" else f"{short[value]} protocol")
    return [r.method + (f" ({', '.join(part)})" if part else "") for r, part in zip(results, parts, strict=True)]


def summary(results: Sequence[Result]) -> Group:
    """The table for the terminal, and what its figures mean."""
    from rich.console import Group
    from rich.text import Text

    header, rows = _rows(results)
    remarks = [line for fact in (extent, _counted) for line in _told(results, fact)] + _other_means(results)
    remarks += [line for fact in (_model_name, _protocol_name, _pace) for line in _told(results, fact)]
    head = [name.replace(" ", "\n").replace("/", "\n/") for name in header]
    table = terminal_table(head, rows, _figures(header), title=_name(results))
    return Group(table, Text("\n".join(remarks)))


def markdown(results: Sequence[Result]) -> str:
    """The table, what it means, and the IoU of every class, in percent."""
    header, rows = _rows(results)
    best = max((result.scores["miou"] for result in results if math.isfinite(result.scores["miou"])), default=None)
    for row, result in zip(rows, results, strict=True):
        if len(results) > 1 and result.scores["miou"] == best:
            row[header.index(SCORES["miou"])] = f"**{_figure(best)}**"
    remarks = [line for fact in (extent, _counted) for line in _told(results, fact)] + _other_means(results)
    remarks += [line for fact in (_protocol, _model, _speed, _made) for line in _told(results, fact)]
    titles = titles_of(results)
    for title, result in list(zip(titles, results, strict=True))[1:]:
        if (ahead := result.details.get("miou_beyond_first_row")) and None not in ahead:
            low, high = ahead
            remarks.append(
                f"{title} against {titles[0]}: mIoU {low:+.1f} to {high:+.1f}, 95% interval of the paired bootstrap"
            )
    by_class = [["class", *titles]]
    by_class += [[name, *(_figure(value) for value in line[::2])] for name, *line in _by_class(results)]
    parts = [
        f"## {_name(results)}",
        markdown_table(header, rows, right=_figures(header)),
        "Scores are in percent, at the labels' own size, from areas summed over all images; a class that is predicted "
        "but in no label counts 0.",
        "\n".join(f"- {line}" for line in remarks),
        "### IoU by class",
        markdown_table(by_class[0], by_class[1:], right=_figures(by_class[0])),
    ]
    return "\n\n".join(parts) + "\n"


def csv_rows(results: Sequence[Result]) -> list[list[str]]:
    """Head and a row for each class: its name, then IoU and accuracy of every method in percent; empty for none."""
    head = ["class", *(f"{title} {what}" for title in titles_of(results) for what in ("IoU", "accuracy"))]
    return [head, *([name, *(_figure(value, 4, "") for value in line)] for name, *line in _by_class(results))]


def write_csv(path: str | Path, results: Sequence[Result]) -> None:
    """Write `csv_rows` atomically.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_write(path) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(csv_rows(results))


# --- Facts of a row ----------------------------------------------------------------------------------


def extent(result: Result) -> str:
    """What was measured, such as "43 of 1,449 images: a subset"."""
    images = counted(result.images, "image")
    if result.full is None:
        return f"{images}, of a split of unknown size"
    return f"{result.images:,} of {result.full:,} images: a subset" if result.partial else f"all {images}"


def _counted(result: Result) -> str:
    """How many classes the labels show, and how many the mean covers: those and what is only predicted."""
    total = len(result.details["classes"])
    shown = sum(value is not None and math.isfinite(value) for value in result.details["accuracy"])
    covered = result.details["classes_counted"]
    more = f", {covered - shown} of them predicted only, with IoU 0" if covered > shown else ""
    return f"the labels show {shown} of {counted(total, 'class', 'classes')}; the mean covers {covered}{more}"


def _other_means(results: Sequence[Result]) -> list[str]:
    """A remark where the means of rows cover different classes."""
    covered = {tuple(v is not None and math.isfinite(v) for v in result.details["iou"]) for result in results}
    remark = "the means of the rows cover different classes: a row also counts what only it predicts, with IoU 0"
    return [remark] if len(covered) > 1 else []


def _protocol_name(result: Result) -> str:
    protocol = result.protocol
    changed = f" (changed: {', '.join(protocol['changed'])})" if protocol.get("changed") else ""
    return f"protocol {protocol.get('name', NONE)}{changed}, names {protocol.get('names', NONE)}"


def _protocol(result: Result) -> str:
    told = ("name", "names", "changed")
    rest = "; ".join(f"{key} {_value(value)}" for key, value in result.protocol.items() if key not in told)
    return f"{_protocol_name(result)}" + (f"; {rest}" if rest else "")


def _model_name(result: Result) -> str:
    """The model in a few words, for the terminal."""
    name, clip = result.model.get("name", NONE), result.model.get("clip")
    kind = "trained head" if result.model.get("trained") else "no trained head"
    return f"model {name} ({kind}" + ("" if clip in (None, name) else f" on {clip}") + ")"


def _model(result: Result) -> str:
    told = {key: _value(value) for key, value in result.model.items()}
    if told.get("dense") == result.method:  # said already
        del told["dense"]
    return "model " + "; ".join([told.pop("name", NONE), *(f"{key} {value}" for key, value in told.items())])


def _pace(result: Result) -> str:
    rows = int(result.speed.get("rows_in_the_run", 1))
    together = f" for {rows} rows together" if rows > 1 else ""
    peak = result.speed.get("peak_memory_mb", math.nan)
    return f"{result.speed.get('images_per_second', math.nan):.2f} images/s{together}, peak memory {peak:,.0f} MB"


def _speed(result: Result) -> str:
    figures = {
        key.replace("_", " "): f"{x:,.2f}" if x % 1 and x < 100 else f"{x:,.0f}" for key, x in result.speed.items()
    }
    return "; ".join(f"{key} {value}" for key, value in figures.items())


def _made(result: Result) -> str:
    return "made with " + "; ".join(f"{key} {value}" for key, value in result.made.items())


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "/".join(map(_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _told(results: Sequence[Result], fact: Callable[[Result], str]) -> list[str]:
    """A fact of all rows, once; where rows differ, once for each group that shares it."""
    groups: dict[str, list[str]] = {}
    for title, result in zip(titles_of(results), results, strict=True):
        groups.setdefault(fact(result), []).append(title)
    return list(groups) if len(groups) == 1 else [f"{', '.join(who)}: {what}" for what, who in groups.items()]


# --- Cells ------------------------------------------------------------------------------------------


def _name(results: Sequence[Result]) -> str:
    names = {f"{result.dataset} {result.split}".strip() for result in results}
    if len(names) != 1:
        raise ValueError(f"a table is of one benchmark, not of {len(names)}")
    return names.pop()


def _rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table; scores that no row has get no column."""
    there = [key for key in SCORES if any(key in result.scores for result in results)]
    there += dict.fromkeys(key for result in results for key in result.scores if key not in SCORES)
    intervals = any("miou" in result.intervals for result in results)
    names = [Path(str(result.protocol.get("names", ""))).stem for result in results]
    several = len(set(names)) > 1
    header = ["method", *(["names"] if several else [])]
    for key in there:
        header += [SCORES.get(key, key.replace("_", " ")), *([INTERVAL] if key == "miou" and intervals else [])]
    rows = []
    for name, result in zip(names, results, strict=True):
        row = [result.method, *([name] if several else [])]
        for key in there:
            row.append(_figure(result.scores.get(key)))
            if key == "miou" and intervals:
                low, high = map(_figure, result.intervals.get(key, (None, None)))
                row.append(NONE if NONE in (low, high) else f"{low}-{high}")
        rows.append(row)
    return header, rows


def _by_class(results: Sequence[Result]) -> list[list[Any]]:
    """Name of every class, then IoU and accuracy of every row."""
    classes = results[0].details["classes"]
    lines: list[list[Any]] = [[name] for name in classes]
    for result in results:
        for line, iou, accuracy in zip(lines, result.details["iou"], result.details["accuracy"], strict=True):
            line += [iou, accuracy]
    return lines


def _figure(value: float | None, digits: int = 1, none: str = NONE) -> str:
    return none if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _figures(header: Sequence[str]) -> list[int]:
    """Columns of figures: all but those of words."""
    return [i for i, name in enumerate(header) if name not in WORDS]
