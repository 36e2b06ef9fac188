"""From counts to results: scores with intervals, tables, charts, a contact sheet."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.errors import UserError
from pacl.files import atomic_write
from pacl.printing import escaped

if TYPE_CHECKING:
    from eval.common.result import Result
    from eval.segmentation.counts import Counts
    from eval.segmentation.measure import Bench, Ready
    from eval.segmentation.selection import Selection

FEWEST_IMAGES = 10
"""Images below which no interval is stated: samples of so few say little about others."""

FILES = ("results.json", "results.md", "classes.csv", "classes.png", "confusion-*.png", "sheet.jpg")
"""What `report` writes, as glob patterns."""


def report(
    selection: Selection, out: Path, bench: Bench, counts: Counts, model: str, ranks: int, *, figures: bool
) -> None:
    """Write and print the results of one benchmark.

    Args:
        selection: the benchmark.
        out: folder for the results.
        bench: the rows that were measured.
        counts: of all images.
        model: what ``--model`` was given.
        ranks: processes that measured.
        figures: whether to draw.
    """
    from rich.console import Console

    from eval.common.result import write_results
    from eval.segmentation.tables import markdown, summary, write_csv

    results = [result(selection, bench, counts, r, model, ranks) for r in range(len(bench.rows))]
    write_results(out, results)
    write_csv(out / "classes.csv", results)
    with atomic_write(out / "results.md") as aside:
        aside.write_text(markdown(results), encoding="utf-8")
    if figures:
        draw(selection, out, bench, counts, results)
    console = Console(highlight=False)
    console.print(summary(results))
    console.print(f"results in {escaped(out)}", markup=False, soft_wrap=True)


def result(selection: Selection, bench: Bench, counts: Counts, r: int, model: str, ranks: int) -> Result:
    """The scores of row r, in percent."""
    from eval.common.files import file_digests, own_data
    from eval.common.result import Result, describe_model, made_with
    from eval.segmentation.bootstrap import paired_interval, score_intervals
    from eval.segmentation.fingerprint import masks, pictures
    from pacl.metrics.segmentation import class_accuracy, iou, scores

    row = bench.rows[r].row
    areas = counts.areas[:, r]  # [I, 3, C]
    total = areas.sum(0)  # [3, C]
    figures = {key: 100 * float(value) for key, value in scores(total).items()}
    if counts.boundary is not None:
        figures["boundary_miou"] = 100 * float(scores(counts.boundary[:, r].sum(0))["miou"])
    if counts.patches is not None and counts.bound is not None:
        right, counted = counts.patches[:, r].sum(0)
        figures["patch_accuracy"] = 100 * float(right) / float(counted) if counted else float("nan")
        figures["upper_bound_miou"] = 100 * float(scores(counts.bound.sum(0))["miou"])
    by_class = 100 * iou(total)
    few = len(areas) < FEWEST_IMAGES
    intervals = {} if few else {key: [100 * low, 100 * high] for key, (low, high) in score_intervals(areas).items()}
    ahead: list[float | None] = [None, None]
    if not few:
        ahead = [100 * bound for bound in (paired_interval(areas, counts.areas[:, 0]) if r else (0.0, 0.0))]
    seconds = float(counts.seconds[0])
    own = {}
    if selection.own:
        content = json.dumps([pictures(selection.folders[0]), masks(selection.folders[0])])
        own["data"] = own_data(selection.benchmark.title, hashlib.sha256(content.encode()).hexdigest())
    return Result(
        task="segmentation",
        dataset=selection.name,
        split=selection.split,
        images=len(areas),
        full=selection.full,
        method=row.method,
        model=describe_model(row.model, model),
        protocol={
            **row.protocol.described(),
            **resolved(bench.rows[r]),
            **file_digests(name=row.protocol.name, names=row.protocol.names, templates=row.protocol.settings.templates),
            **own,
        },
        scores=figures,
        intervals=intervals,
        details={
            "classes": [label.name for label in row.labels],
            "iou": by_class.tolist(),
            "accuracy": (100 * class_accuracy(total)).tolist(),
            "classes_counted": int((by_class == by_class).sum()),
            "miou_beyond_first_row": ahead,
        },
        speed={
            "images_per_second": len(areas) * ranks / seconds,
            "rows_in_the_run": len(bench.rows),
            "peak_memory_mb": int(counts.peak[0]) / 2**20,
            "peak_memory_beyond_the_model_mb": int(counts.beyond[0]) / 2**20,
        },
        made=made_with(bench.device),
    )  # fmt: skip


def resolved(ready: Ready) -> dict[str, Any]:
    """The settings that a protocol leaves to the model or the machine, with the values that were used."""
    settings = ready.segmenter.resolved_settings()
    return {
        "size": settings.size,
        "logit_scale": settings.logit_scale,
        "precision": settings.precision,
        "scales": list(settings.scales or ()),
        "prior": settings.prior,
    }


def draw(selection: Selection, out: Path, bench: Bench, counts: Counts, results: Sequence[Result]) -> None:
    """Draw class IoUs, a confusion matrix of each row, and the best, median and worst images."""
    from eval.common.charts import class_bars, confusion_chart
    from eval.segmentation.prediction_sheet import Sample, prediction_sheet
    from eval.segmentation.tables import extent, titles_of
    from pacl.metrics.segmentation import scores

    titles = titles_of(results)
    classes = results[0].details["classes"]
    model = results[0].model["name"]
    where = f"{selection.title}, {model}, {selection.protocols[0].name} protocol, {extent(results[0])}"
    try:
        class_bars(
            out / "classes.png",
            classes,
            {t: r.details["iou"] for t, r in zip(titles, results, strict=True)},
            where,
            [value is not None and value == value for value in results[0].details["accuracy"]],
        )
    except UserError as error:  # without the library that draws, the figures are still there
        print(f"eval.segmentation: note: no figures: {error}", file=sys.stderr)
        return
    for title, matrix in zip(titles, counts.confusion, strict=True):
        confusion_chart(out / f"confusion-{file_name(title)}.png", classes, matrix, f"{where}, {title}")
    best = max(range(len(results)), key=lambda r: results[r].scores["miou"])
    by_image = scores(counts.areas[:, best])["miou"]  # [I]
    order = [int(i) for i in by_image.argsort(kind="stable") if by_image[i] == by_image[i]]
    shown = {i: f"{word}: {{}}, mIoU {100 * by_image[i]:.1f}" for word, i in extremes(order)}
    samples = []
    for i, caption in shown.items():
        item = selection.folders[0][i]
        image = item.image()
        (found,) = bench.predict([image], [item.mask])  # as `Bench.count` does
        labelled = {title: each.labels for title, each in zip(titles, found, strict=True)}
        samples.append(Sample(caption.format(item.name), image, item.mask, labelled))
    if samples:
        prediction_sheet(out / "sheet.jpg", samples, classes, f"{where}; chosen by {titles[best]}")


def file_name(title: str) -> str:
    """A row's title as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", title)


def extremes(order: Sequence[int], count: int = 3) -> list[tuple[str, int]]:
    """From images in order, the worst first, pick a few of the best, the median and the worst, each once."""
    count = max(1, min(count, len(order) // 3))
    best, worst = order[::-1][:count], order[:count]
    start = (len(order) - count) // 2
    median = [i for i in order[start : start + count] if i not in (*best, *worst)]
    last = [i for i in worst if i not in best]
    return [*(("best", i) for i in best), *(("median", i) for i in median), *(("worst", i) for i in last)]
