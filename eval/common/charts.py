"""Charts by matplotlib (``pip install "pacl[eval]"``): scores by class, confusion matrices, times.

C is the number of classes. Files are PNG or JPEG, by their suffix.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pacl.errors import UserError
from pacl.images import save_image
from pacl.results.fonts import BACKGROUND, MUTED, TEXT
from pacl.results.legend import LINE, OUTLINE
from pacl.results.palette import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
MARGIN = 0.12  # inches
MARKERS = "ovsD^P*X"  # one for each method but the first, so that they differ in shape, too
MAX_NAME = 32  # letters of a class name
MAX_NUMBERED = 25  # classes up to which the cells of a confusion matrix show their values


class Curve(NamedTuple):
    """Time and memory of a method against what grows."""

    name: str
    x: list[float]
    ms: list[float]
    mb: list[float]


def class_bars(
    path: str | Path,
    classes: Sequence[str],
    methods: Mapping[str, Sequence[float | None]],
    title: str,
    labelled: Sequence[bool] | None = None,
) -> None:
    """Draw the IoU of every class: bars for the best method, which also sorts the classes, and markers for the others.

    Args:
        path: PNG or JPEG.
        classes: C names.
        methods: by method, IoU in percent of the C classes; NaN or None where a class has none. The best method has
            the highest mean.
        title: what was measured.
        labelled: of the C classes, whether an image shows them. The others have an IoU of 0 where they are predicted,
            and a star, since no method could find them. None: all are.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    iou = {name: np.array(values, np.float64) for name, values in methods.items()}  # None becomes NaN
    scored = np.flatnonzero(np.isfinite([*iou.values()]).any(axis=0))
    means = {name: float(np.nanmean(values)) for name, values in iou.items() if np.isfinite(values).any()}
    best, *others = sorted(iou, key=lambda name: -means.get(name, -1))
    rows = scored[np.argsort(-np.nan_to_num(iou[best][scored], nan=-1), kind="stable")]
    at = np.arange(len(rows))
    legend = {name: f"{name}: {means[name]:.1f}" if name in means else name for name in iou}
    columns = 4 if max(map(len, legend.values())) <= 24 else 2

    height = 1.1 + 0.2 * len(rows)
    starred = {int(i) for i in rows if labelled is not None and not labelled[i]}
    remarks = [_left_out(len(classes) - len(rows)), "*: in no image, but predicted" if starred else ""]
    figure, axes = _figure(9.6, height, title, "; ".join(filter(None, remarks)), -(-len(iou) // columns))
    colours = palette(len(iou))[1:]
    pale = 0.55 * colours[0] + 0.45 * np.array(BACKGROUND)  # so that markers on a bar stand out
    axes.barh(at, np.nan_to_num(iou[best][rows]), height=0.74, color=_hex(pale), label=legend[best])
    for i, name in enumerate(others):
        axes.scatter(
            iou[name][rows],
            at,
            s=30,
            marker=MARKERS[i % len(MARKERS)],
            color=_hex(colours[i + 1]),
            edgecolors=_hex(TEXT),
            linewidths=0.5,
            zorder=3,
            clip_on=False,  # draw the whole marker at 0
            label=legend[name],
        )
    highest = max((float(np.nanmax(iou[name])) for name in means), default=0)
    axes.set(xlim=(0, min(100, max(10, 1.04 * highest))), ylim=(max(1, len(rows)) - 0.4, -0.6), yticks=at)
    axes.set_yticklabels([_short(classes[int(i)]) + " *" * (int(i) in starred) for i in rows], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labeltop=True, length=0, labelsize=9)
    values = axes.secondary_yaxis("right")
    values.set_yticks(at, ["" if np.isnan(value) else f"{value:.1f}" for value in iou[best][rows]], fontsize=8.5)
    values.tick_params(length=0)
    values.spines["right"].set_visible(False)
    axes.grid(axis="x", color=_hex(LINE), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"IoU in percent; on the right that of {_plain(best)}", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(iou)), key=lambda i: labels[i] != legend[best])  # the bar would be last
    width, total = figure.get_size_inches()
    figure.legend(
        [handles[i] for i in order],
        [_plain(labels[i]) for i in order],
        loc="lower left",
        bbox_to_anchor=(MARGIN / width, height / total),
        borderaxespad=0,
        borderpad=0,
        ncols=columns,
        frameon=False,
        fontsize=9.5,
    )
    _save(figure, path)


def confusion_chart(path: str | Path, classes: Sequence[str], confusion: np.ndarray, title: str) -> None:
    """Confusion matrix in percent of each row; the colour scale is a square root, so that small shares are visible.

    Args:
        path: PNG or JPEG.
        classes: C names.
        confusion: counts [C, C], rows true, columns predicted.
        title: what was measured.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    there = confusion.sum(0) + confusion.sum(1) > 0
    kept = np.flatnonzero(there if there.any() else ~there)
    counts = confusion[np.ix_(kept, kept)].astype(np.float64)
    total = counts.sum(1, keepdims=True)
    share = np.divide(100 * counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    names = [_short(classes[int(i)]) for i in kept]
    n = len(kept)

    few = n <= MAX_NUMBERED
    side = max(5.0, (0.36 if few else 0.125) * n)
    unlabelled = int((total == 0).sum())
    grey = f"grey: {unlabelled} without a labelled pixel" if unlabelled else ""
    remarks = "; ".join(filter(None, [_left_out(len(classes) - len(kept)), grey]))
    figure, axes = _figure(side + 2.6, side + 1.6, title, remarks)
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    axes.set_facecolor(_hex(OUTLINE))  # visible where a row has no pixels
    colours = colormaps["magma_r"].with_extremes(under=_hex(BACKGROUND))
    drawn = axes.imshow(np.where(share == 0, -1, share), cmap=colours, norm=PowerNorm(0.5, 0, 100))
    size = 9 if few else 6.5
    axes.set_xticks(range(len(kept)), names, fontsize=size)
    axes.set_yticks(range(len(kept)), names, fontsize=size)
    axes.tick_params(length=0, pad=3, labelright=not few, labeltop=not few)
    axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlabel("predicted", fontsize=10)
    axes.set_ylabel("true", fontsize=10)
    axes.set_xticks(np.arange(-0.5, n), minor=True)
    axes.set_yticks(np.arange(-0.5, n), minor=True)
    axes.grid(which="minor", color=_hex(LINE), linewidth=0.6 if few else 0.3)
    axes.tick_params(which="minor", length=0)
    if few:
        for (i, j), value in np.ndenumerate(share):
            if value >= 0.5:
                colour = "white" if value > 20 else "black"
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    width = 0.25 / side  # inches
    ticks = [0, 1, 5, 10, 25, 50, 75, 100]
    bar = figure.colorbar(drawn, ax=axes, fraction=width, pad=width, aspect=0.9 / width, ticks=ticks)
    bar.set_label("percent of the true class's pixels", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    _save(figure, path)


def time_bars(path: str | Path, cases: Mapping[str, Mapping[str, tuple[float, float]]], title: str) -> None:
    """Bars of milliseconds on a logarithmic axis, in groups; a line shows how far the runs of a bar spread.

    Args:
        path: PNG or JPEG.
        cases: by case, and in it by method, the shortest and the longest time in milliseconds, above 0.
        title: what was measured.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    names, least, most, at = [], [], [], []
    place = 0.0
    heads: dict[float, str] = {}
    for case, methods in cases.items():
        heads[place] = case
        place += 1
        for method, (low, high) in methods.items():
            names.append(_plain(method))
            least.append(low)
            most.append(high)
            at.append(place)
            place += 1
        place += 0.4
    figure, axes = _figure(9.6, 1.1 + 0.19 * place, title, "milliseconds, logarithmic; lines: to the longest run")
    axes.barh(at, least, height=0.76, color=_hex(palette(1)[1]))
    axes.hlines(at, least, most, color=_hex(TEXT), linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(at, names, fontsize=8)
    for y, case in heads.items():
        axes.annotate(
            _plain(case), (0, y), xycoords=("axes fraction", "data"), fontsize=8.5, va="center", weight="bold"
        )
    axes.set_ylim(place - 0.5, -1)
    axes.grid(axis="x", color=_hex(LINE), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both")
    axes.set_xlabel("milliseconds", fontsize=9)
    _save(figure, path)


def growth_curves(path: str | Path, curves: Mapping[str, Sequence[Curve]], title: str) -> None:
    """Time (above) and peak memory (below) against what grows, on logarithmic axes, a column for each that does.

    Args:
        path: PNG or JPEG.
        curves: by what grows, the methods; memory of 0 is left out.
        title: what was measured.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    figure, first = _figure(3.2 * len(curves), 5.6, title, "logarithmic axes: a line of slope n grows as the power n")
    first.remove()
    grid = figure.subplots(2, len(curves), squeeze=False)
    tints = list(map(_hex, palette(8)[1:]))
    for column, (axis, methods) in enumerate(curves.items()):
        for row, unit in enumerate(("ms", "peak MB")):
            axes = grid[row][column]
            for i, curve in enumerate(methods):
                values = np.array(curve.mb if row else curve.ms, np.float64)
                shown = np.where(values > 0, values, np.nan)
                axes.plot(curve.x, shown, "o-", color=tints[i % len(tints)], markersize=4, label=_plain(curve.name))
            axes.set_xscale("log")
            axes.set_yscale("log")
            values_of_x = sorted({value for curve in methods for value in curve.x})
            axes.set_xticks(values_of_x, [f"{value:g}" for value in values_of_x])
            axes.minorticks_off()
            axes.grid(color=_hex(LINE), linewidth=0.8)
            axes.spines[:].set_visible(False)
            axes.tick_params(labelsize=8, length=0)
            axes.set_ylabel(unit, fontsize=9)
            axes.set_xlabel(axis if row else "", fontsize=9)
            if not row:
                axes.legend(fontsize=7, frameon=False)
    _save(figure, path)


def _figure(width: float, height: float, title: str, remark: str, legend: int = 0) -> tuple[Figure, Any]:
    """A figure with title, remark and room for ``legend`` lines of legend at its top, and axes below them.

    ``width`` and ``height`` of the axes' part are in inches. The figure is not registered with `matplotlib.pyplot`.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise UserError('charts need matplotlib: pip install "pacl[eval]"') from None
    lines = [(line, 11.0, TEXT) for line in textwrap.wrap(title, round(10.5 * width))]
    lines += [(line, 9.5, MUTED) for line in textwrap.wrap(remark, round(12 * width))]
    total = height + 0.22 * len(lines) + 0.26 * legend + MARGIN
    layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN, rect=(0, 0, 1, height / total))
    figure = Figure(figsize=(width, total), dpi=DPI, layout=layout, facecolor=_hex(BACKGROUND))
    FigureCanvasAgg(figure)
    for i, (line, size, colour) in enumerate(lines):
        y = 1 - (MARGIN + 0.22 * i) / total
        figure.text(MARGIN / width, y, _plain(line), fontsize=size, color=_hex(colour), va="top")
    axes = figure.add_subplot(facecolor="none")
    axes.spines[:].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: str | Path) -> None:
    canvas: Any = figure.canvas
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # such letters are drawn as boxes
        canvas.draw()
    save_image(path, np.asarray(canvas.buffer_rgba())[..., :3])


def _left_out(count: int) -> str:
    return f"left out: {count} class{'es' * (count > 1)}, neither labelled nor predicted" if count else ""


def _short(name: str) -> str:
    return _plain(name if len(name) <= MAX_NAME else name[: MAX_NAME - 3].rstrip() + "...")


def _plain(text: str) -> str:
    """Escape dollar signs, which matplotlib reads as formulas."""
    return text.replace("$", r"\$")


def _hex(rgb: Any) -> str:
    return "#" + bytes(int(value) for value in rgb).hex()
