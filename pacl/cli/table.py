"""The record of a segmented image as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pacl.printing import counted, without_controls
from pacl.results.palette import palette

if TYPE_CHECKING:
    from rich.text import Text

MAX_ROWS = 20


def record_table(record: dict[str, Any]) -> Iterator[Text]:
    """A row for each of the largest labels found, with share, mean probability and box; then those without a pixel."""
    from rich.text import Text

    colours = palette(len(record["labels"]))
    found = _by_share(record)
    without = [label["label"] for label in record["labels"] if label["share"] == 0]
    shown = found[:MAX_ROWS]
    width = min(40, max(map(len, [*(label["label"] for label in shown), "background"])))
    yield Text(f"{'':4}{'label':<{width}}    share  score   box x, y, w, h", style="dim")
    for label in shown:
        row = Text("  ")
        row.append("■ ", style="rgb({},{},{})".format(*colours[label["id"]]))
        box = "-" if label["box"] is None else ", ".join(map(str, label["box"]))
        score = "-    " if label["score"] is None else f"{label['score']:.3f}"
        row.append(f"{shorten(label['label'], width):<{width}}  {label['share']:7.1%}   {score}  {box}")
        yield row
    if record["background"]["share"] > 0:
        yield Text(f"    {'background':<{width}}  {record['background']['share']:7.1%}", style="dim")
    if len(found) > MAX_ROWS:
        yield Text(f"    and {counted(len(found) - MAX_ROWS, 'smaller one')}", style="dim")
    if without:  # of the image's things they may still be one, which another label won
        yield Text("    no pixels: " + shorten(", ".join(without), 100), style="dim")


def record_line(record: dict[str, Any], max_labels: int = 4) -> str:
    """The largest labels found and their shares, in one line."""
    found = _by_share(record)
    parts = [f"{shorten(label['label'], 30)} {label['share']:.1%}" for label in found[:max_labels]]
    return ", ".join(parts + ["..."] * (len(found) > max_labels)) or "nothing found"


def _by_share(record: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted((label for label in record["labels"] if label["share"] > 0), key=lambda label: -label["share"])


def shorten(text: str, width: int) -> str:
    """The text without control characters, in at most ``width`` characters."""
    text = without_controls(text)
    return text if len(text) <= width else text[: width - 3] + "..."
