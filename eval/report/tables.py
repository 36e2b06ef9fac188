"""Report tables, one for each kind of figure: measured rows, followed by published ones.

Every row states its image tower, protocol and list of class names, and notes mark subsets, changed settings and
undocumented protocols, so that figures are not compared that are not comparable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.classification.image_sets import IMAGE_BENCHMARKS
from eval.common.result import Result
from eval.common.tables import markdown_table
from eval.report.describe import (
    DATASETS,
    NONE,
    Notes,
    changed,
    data_of,
    identity,
    names_of,
    number,
    order,
    own_names,
    protocol_parts,
    tail,
    tower,
    trained_on,
)
from eval.report.published import Published, compare, published, published_rows
from eval.segmentation.protocol import PROTOCOLS, read_protocol
from eval.segmentation.registry import BENCHMARKS

MEASURED = "measured"
UNDOCUMENTED = "undocumented"  # family of published rows without a documented protocol

Figure = tuple[str, float] | None
"""Name and value of a score; None if a result has none."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure, which has a table of its own.

    Attributes:
        title: of the table.
        task: of its results.
        about: text below the title.
        published: table of ``published.yaml``.
        figure: result -> `Figure`.
        usual: name of the usual score; columns of other scores state theirs.
        columns: columns besides the measured data sets.
    """

    title: str
    task: str
    about: str
    published: str
    figure: Callable[[Result], Figure]
    usual: str
    columns: tuple[str, ...] = ()


def _score(name: str) -> Callable[[Result], Figure]:
    return lambda result: (name, result.scores[name]) if name in result.scores else None


def _accuracy(result: Result) -> Figure:
    return _score(str(result.protocol.get("main", "top1")))(result)


def _recall(result: Result) -> Figure:
    """R@1 as it is published; "mean recall" in results is over R@1, R@5 and R@10."""
    ways = [result.scores.get(f"{way} R@1") for way in ("i2t", "t2i")]
    return None if None in ways else ("R@1", sum(way for way in ways if way is not None) / 2)


KINDS = (
    Kind(
        "Mean IoU", "segmentation", "Percent, with the 95 % interval over images.",
        "segmentation", _score("miou"), "miou",
    ),
    Kind(
        "Patch classification", "segmentation",
        "Accuracy in percent: the most similar class of each patch against its majority label.",
        "patch_classification", _score("patch_accuracy"), "patch_accuracy", ("voc",),
    ),
    Kind(
        "Accuracy", "classification",
        "Percent, with the 95 % interval over images: top-1 where the column names no other score. Probes: means over "
        "seeds.",
        "classification", _accuracy, "top1",
    ),
    Kind(
        "Recall", "retrieval", "R@1 in percent: the mean of both directions.",
        "retrieval", _recall, "R@1",
    ),
)  # fmt: skip


@dataclass
class Row:
    """A row of a table.

    Attributes:
        method: the method.
        origin: `MEASURED`, or the short name of a paper.
        tower: the image tower.
        protocol: its name and changed settings, without the names.
        names: list of class names -> data sets measured with it.
        figures: column -> figures as text.
    """

    method: str
    origin: str
    tower: str
    protocol: tuple[str, ...]
    names: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, list[str]] = field(default_factory=dict)

    def cells(self, columns: Iterable[str]) -> list[str]:
        """The cells of the row."""
        lists = [
            names if len(self.names) == 1 else f"{names} ({', '.join(datasets)})"
            for names, datasets in self.names.items()
        ]
        names = [f"names {', '.join(lists)}"] if lists else []
        protocol = ", ".join([*self.protocol[:1], *names, *self.protocol[1:]])
        figures = ("; ".join(self.figures.get(column, [NONE])) for column in columns)
        return [self.method, self.origin, self.tower, protocol, *figures]

    def add(self, dataset: str, names: str | None, column: str, figure: str) -> None:
        """Add a figure, and the list of class names that it was measured with, if any."""
        if names is not None and dataset not in (datasets := self.names.setdefault(names, [])):
            datasets.append(dataset)
        self.figures.setdefault(column, []).append(figure)


def table(kind: Kind, results: Sequence[Result]) -> list[str]:
    """The table: measured rows, then published ones with a figure on the same data sets; then notes and sources.

    Empty if no result has such a figure.
    """
    notes = Notes()
    measured: dict[Any, Row] = {}
    columns: dict[str, str] = {}  # title -> data set
    for result in results:
        if (figure := kind.figure(result)) is None:
            continue
        name, score = figure
        column = data_of(result) if name == kind.usual else f"{data_of(result)} ({name})"
        columns[column] = result.dataset
        row = measured.setdefault(identity(result), Row(result.method, MEASURED, tower(result), protocol_parts(result)))
        mark = notes.mark(_comparable(result) if kind.usual == "miou" else "", *_remarks(result))
        row.add(data_of(result), names_of(result), column, f"{number(score)}{_interval(result, name)} {mark}".strip())
    if not measured:
        return []
    columns |= {column: column for column in kind.columns}
    titles = sorted(columns, key=lambda column: (order(DATASETS)(columns[column]), column))
    theirs = [row for row in published_rows(kind.published) if set(row.scores) & set(titles)]
    rows = [*measured.values(), *(_published(row, titles, notes) for row in theirs)]
    sources = [f"- {published()['sources'][key]}" for key in dict.fromkeys(row.source for row in theirs)]
    header = ["method", "source", "image tower", "protocol, names", *titles]
    lines = [*notes.lines(), *sources]
    return [markdown_table(header, (row.cells(titles) for row in rows)), *(["\n".join(lines)] if lines else [])]


def _published(row: Published, columns: Sequence[str], notes: Notes) -> Row:
    origin = re.split("[:,]", published()["sources"][row.source])[0]
    family = f"a protocol similar to {row.family}, with names and settings of the paper's own"
    mark = notes.mark(family if row.family in PROTOCOLS else "", row.assumed)
    changes = [f"{key} {value}" for key, value in row.changed.items()]
    name = f"{row.family} family" if row.family in PROTOCOLS else row.family
    found = Row(f"{row.title} {mark}".strip(), origin, row.backbone, (row.protocol or name, *changes))
    for column in columns:
        if column in row.scores:
            names = None
            if row.protocol:
                names = read_protocol(row.protocol, column, background=BENCHMARKS[column].background).names
            found.add(column, names, column, f"{row.scores[column]:.1f}")
    return found


def _remarks(result: Result) -> list[str]:
    """The notes on a figure."""
    protocol = result.protocol
    notes = []
    if result.partial:
        notes.append(f"subset: {result.images} of {result.full or 'an unknown number of'} images")
    other = own_names(result) not in (None, names_of(result))
    if changes := [*([f"names {names_of(result)}"] if other else []), *changed(result)]:
        notes.append(f"not {tail(str(protocol.get('name')))} as it is; changed: {', '.join(changes)}")
    notes.append(trained_on(result))
    if protocol.get("precision", "fp32") != "fp32":
        notes.append(f"precision {protocol['precision']}")
    if result.task == "segmentation":
        unknown = {row.source: row.assumed for row in published_rows("segmentation") if row.family == UNDOCUMENTED}
        notes.append(unknown.get(str(protocol.get("name")), ""))
    if result.dataset in IMAGE_BENCHMARKS and IMAGE_BENCHMARKS[result.dataset].published:
        notes.append(f"{result.dataset}: {protocol.get('pictures')}")
    return notes


def _comparable(result: Result) -> str:
    """The note on a figure that can be compared with a published one; "" for others."""
    verdict = compare(result)
    return f"measured as the published row {verdict.row.title}" if verdict.row and verdict.passed is not None else ""


def _interval(result: Result, name: str) -> str:
    low, high = result.intervals.get(name, (None, None))
    return "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
