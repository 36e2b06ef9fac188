"""The results as files and on the terminal: ``speed.json``, ``speed.md``, ``speed.png`` and ``growth.png``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.common.tables import markdown_table
from eval.speed.measure import Row
from pacl.errors import UserError
from pacl.files import atomic_write, parse_json
from pacl.json_values import from_values

if TYPE_CHECKING:
    from eval.common.charts import Curve

JSON, MARKDOWN, BARS, GROWTH = "speed.json", "speed.md", "speed.png", "growth.png"
FORMAT = "pacl-speed"
MADE = ("date", "device", "runs", "quick")
"""What a file says of how it was made, besides the versions."""
HEADER = ["what", "precision", "ms", "spread", "peak MB", "of reference", "of limit", "images/s"]
RIGHT = range(2, len(HEADER))

LEGEND = (
    "ms: the shortest of {runs} runs, of all lines of a table in turns; spread: by how much the longest exceeds it. "
    "Peak MB: beyond what was in use before the call (10^6 bytes). Of reference: time over that of the line named in "
    "brackets. Of limit: the time of the bare computation, named likewise, over the time; 100 % cannot be beaten."
)


def write_tables(folder: Path, rows: Sequence[Row], made: Mapping[str, Any]) -> list[Path]:
    """Write the JSON and the Markdown; returns their paths.

    Args:
        folder: for the files; it exists.
        rows: at least one.
        made: how they were measured: ``date``, ``device``, ``runs``, ``quick``, versions.

    Raises:
        UserError: a file cannot be written.
    """
    content = {"format": FORMAT, "version": 1, "made": dict(made), "rows": [dataclasses.asdict(row) for row in rows]}
    texts = {
        JSON: json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        MARKDOWN: markdown(rows, made),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def write_charts(folder: Path, rows: Sequence[Row], made: Mapping[str, Any]) -> list[Path]:
    """Draw the times of all parts but growth, and growth, where there are any; returns the paths.

    Args:
        folder, rows, made: as in `write_tables`.

    Raises:
        UserError: matplotlib is missing, or a file cannot be written.
    """
    from eval.common.charts import growth_curves, time_bars

    files = []
    title = f"{made['device']}, torch {made['torch']}, {made['date']}"
    if timed := [row for row in rows if row.ms and row.part != "growth"]:
        bars = {
            case: {f"{row.method}, {row.precision}": (min(row.ms), max(row.ms)) for row in own}
            for case, own in groupby(timed, lambda row: f"{row.part}: {row.case}")
        }
        time_bars(folder / BARS, bars, title)
        files.append(folder / BARS)
    if curves := growth(rows):
        growth_curves(folder / GROWTH, curves, title)
        files.append(folder / GROWTH)
    return files


def read(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Read the rows of a ``speed.json``, and how they were made.

    Raises:
        UserError: it is no such file.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != 1:
            raise ValueError("of another format or a newer version")
        rows, made = [from_values(Row, row) for row in content["rows"]], content["made"]
        if lacking := [name for name in MADE if not isinstance(made, dict) or name not in made]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        if wrong := [row.method for row in rows if not _is_whole(row)]:
            raise ValueError(f"the row of {wrong[0]} lacks figures")
        return rows, made
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a file of python -m eval.speed ({error})") from None


def _is_whole(row: Row) -> bool:
    """Whether a row has what a table and a drawing of it need."""
    times = all(ms > 0 for ms in row.ms) and (row.part != "growth" or not row.ms or row.case in row.sizes)
    return times and ("equal_labels" not in row.figures or "equal_labels_of_the_worst" in row.figures)


def markdown(rows: Sequence[Row], made: Mapping[str, Any]) -> str:
    """A table for each case, and the exponents of growth."""
    how = ", ".join(
        f"{name} {value}" for name, value in made.items() if name not in ("device", "runs", "quick", "date")
    )
    quick = " Tiny sizes (--quick): they say nothing about speed." if made["quick"] else ""
    blocks = [f"# Speed\n\n{made['device']}, {made['date']}; {how}.{quick}", LEGEND.format(**made)]
    for part, in_part in groupby(rows, lambda row: row.part):
        blocks.append(f"## {part}")
        for case, own in groupby(in_part, lambda row: row.case):
            blocks.append(f"**{case}**\n\n{markdown_table(HEADER, map(cells, own), RIGHT)}")
    if curves := growth(rows):
        exponents = [
            [axis, curve.name, _number(exponent(curve.x, curve.ms), 2), _number(exponent(curve.x, curve.mb), 2)]
            for axis, group in curves.items()
            for curve in group
        ]
        table = markdown_table(["what grows", "method", "time", "memory"], exponents, (2, 3))
        blocks.append(f"**Exponents of growth** (the slope of a line through the logarithms)\n\n{table}")
    return "\n\n".join(blocks) + "\n"


def cells(row: Row, named: bool = True) -> list[str]:
    """A row of a table; ``named``: with the names of its reference and its limit."""
    sizes = [f"{row.case} {row.sizes[row.case]:g}"] if row.case in row.sizes else []
    speed = row.figures.get("images_per_second")
    if (equal := row.figures.get("equal_labels")) is not None:
        worst = row.figures["equal_labels_of_the_worst"]
        return [f"{row.method}: {equal:.2%} of the pixels, {worst:.2%} in the worst", row.precision, *["-"] * 6]
    return [
        ", ".join([row.method, *sizes]),
        row.precision,
        _number(row.least) if not row.note else row.note,
        "-" if row.spread is None else f"{row.spread:.0%}",
        _number(row.peak_mb, 0),
        "-" if row.ratio is None else f"{row.ratio:.2f}" + f" ({row.reference})" * named,
        "-" if row.fraction is None else f"{row.fraction:.0%}" + f" ({row.limit})" * named,
        _number(speed),
    ]


def growth(rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """What grows -> time and memory of each method against it."""
    from eval.common.charts import Curve

    found: dict[str, list[Curve]] = {}
    for row in rows:
        if row.part != "growth" or not row.ms:
            continue
        curves = found.setdefault(row.case, [])
        curve = next((each for each in curves if each.name == row.method), None)
        if curve is None:
            curves.append(curve := Curve(row.method, [], [], []))
        curve.x.append(row.sizes[row.case])
        curve.ms.append(min(row.ms))
        curve.mb.append(row.peak_mb or 0)
    return found


def exponent(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The least-squares slope of log y by log x; None where y is not positive or there are fewer than two sizes."""
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        return None
    logs = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((a - mean_x) * (b - mean_y) for a, b in logs) / sum((a - mean_x) ** 2 for a, _ in logs)


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "-"
    small = digits == 1 and value < 10
    return f"{value:,.{2 if small else digits}f}"
