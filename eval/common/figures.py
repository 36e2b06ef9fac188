"""Pictures of results: scores by class, what is taken for what, labelled pictures beside the truth, a training.

Charts are drawn by matplotlib (``pip install "pacl[eval]"``), contact sheets by Pillow, in the colours and on the paper
of `pacl.results.render`. Files are PNG or JPEG, by their ending, and written whole.

Shapes: C classes, H W pixels.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pacl.data.masks import IGNORED
from pacl.errors import UserError
from pacl.results.legend import EMPTY, FAINT, INK, LINE, PAPER, Face, ellipsis, typeface
from pacl.results.render import palette, save_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
MARGIN = 0.12  # inches
MARKERS = "ovsD^P*X"  # of the methods after the first; they differ without their colours, too
LONGEST = 32  # letters of a class that a chart shows
NUMBERS = 25  # classes up to which the cells of a confusion matrix hold their figures
TALLEST = 380  # pixels of a contact sheet's panel
LEGEND_LINES = 3  # of a row of it
BACKGROUND = "background"
OPACITY = 0.75  # of labels on a contact sheet; of the background half as much

Row = tuple[str, np.ndarray, np.ndarray, Mapping[str, np.ndarray]]
"""Of a contact sheet: caption, picture RGB uint8 [H, W, 3], labels [H, W] (`IGNORED` or 0..C-1), and each method's."""


class Points(NamedTuple):
    """What was measured at some steps of a training."""

    steps: list[int]
    values: list[float]


# --- Charts -----------------------------------------------------------------------------------------


def class_bars(
    path: str | Path, classes: Sequence[str], methods: Mapping[str, Sequence[float | None]], title: str
) -> None:
    """IoU of every class: a bar for the best method, a mark on it for each of the others, sorted by the best.

    Args:
        path: PNG or JPEG.
        classes: C names.
        methods: IoU in percent of the C classes, by method; NaN or None where a class has none. The best is the
            one with the highest mean.
        title: what was measured.

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
    figure, axes = _figure(9.6, height, title, _left_out(len(classes) - len(rows)), -(-len(iou) // columns))
    colours = palette(len(iou))[1:]
    pale = 0.55 * colours[0] + 0.45 * np.array(PAPER)  # so that marks on a bar stand out
    axes.barh(at, np.nan_to_num(iou[best][rows]), height=0.74, color=_hexadecimal([pale])[0], label=legend[best])
    for i, name in enumerate(others):
        axes.scatter(
            iou[name][rows],
            at,
            s=30,
            marker=MARKERS[i % len(MARKERS)],
            color=_hexadecimal([colours[i + 1]])[0],
            edgecolors=_hexadecimal([INK])[0],
            linewidths=0.5,
            zorder=3,
            clip_on=False,  # a mark at 0 is a whole mark
            label=legend[name],
        )
    highest = max((float(np.nanmax(iou[name])) for name in means), default=0)
    axes.set(xlim=(0, min(100, max(10, 1.04 * highest))), ylim=(max(1, len(rows)) - 0.4, -0.6), yticks=at)
    axes.set_yticklabels([_short(classes[int(i)]) for i in rows], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labeltop=True, length=0, labelsize=9)
    figures = axes.secondary_yaxis("right")
    figures.set_yticks(at, ["" if np.isnan(value) else f"{value:.1f}" for value in iou[best][rows]], fontsize=8.5)
    figures.tick_params(length=0)
    figures.spines["right"].set_visible(False)
    axes.grid(axis="x", color=_hexadecimal([LINE])[0], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"IoU in percent; on the right that of {_plain(best)}", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(iou)), key=lambda i: labels[i] != legend[best])  # the bar is listed last otherwise
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


def confusion_picture(path: str | Path, classes: Sequence[str], confusion: np.ndarray, title: str) -> None:
    """What becomes of the pixels of each class, as shares of its row; colours by the root, so that little shows too.

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

    few = n <= NUMBERS
    side = max(5.0, (0.36 if few else 0.125) * n)
    unlabelled = int((total == 0).sum())
    grey = f"grey: {unlabelled} without a labelled pixel" if unlabelled else ""
    remarks = "; ".join(filter(None, [_left_out(len(classes) - len(kept)), grey]))
    figure, axes = _figure(side + 2.6, side + 1.6, title, remarks)
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    axes.set_facecolor(_hexadecimal([EMPTY])[0])  # shows where a row has no pixels
    colours = colormaps["magma_r"].with_extremes(under=_hexadecimal([PAPER])[0])
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
    axes.grid(which="minor", color=_hexadecimal([LINE])[0], linewidth=0.6 if few else 0.3)
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


def training_curve(path: str | Path, loss: Points, recall: Points, title: str) -> None:
    """Loss (left axis) and, if there is any, recall in percent (right axis) against the steps of a training.

    Args:
        path: PNG or JPEG.
        loss: of the training batches.
        recall: in [0, 1], of the validations.
        title: what was trained.

    Raises:
        UserError: matplotlib is missing, or the file cannot be written.
    """
    remark = f"loss {loss.values[0]:.2f} at first, {loss.values[-1]:.2f} at the end"
    if recall.steps:
        remark += f"; recall {100 * recall.values[0]:.1f} % at first, {100 * recall.values[-1]:.1f} % at the end"
    figure, axes = _figure(7.2, 3.4, title, remark)
    left, right = _hexadecimal(palette(2)[1:])
    axes.plot(*loss, color=left, linewidth=1.8)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("loss of the batch", fontsize=9, color=left)
    axes.grid(color=_hexadecimal([LINE])[0], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9)
    if recall.steps:
        other = axes.twinx()
        other.plot(
            recall.steps, [100 * value for value in recall.values], "o-", color=right, linewidth=1.8, clip_on=False
        )
        other.spines[:].set_visible(False)
        other.set_ylim(bottom=0)
        other.set_ylabel("recall of the validation, percent", fontsize=9, color=right)
        other.tick_params(length=0, labelsize=9)
    _save(figure, path)


def _figure(width: float, height: float, title: str, remark: str, legend: int = 0) -> tuple[Figure, Any]:
    """A figure with title and remark at its top, room for so many lines of legend below them, and axes for the rest.

    Sizes are in inches; `height` is that of the rest. It has no window, and no state shared with anybody's own plots.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise UserError('charts need matplotlib: pip install "pacl[eval]"') from None
    lines = [(line, 11.0, INK) for line in textwrap.wrap(title, round(10.5 * width))]
    lines += [(line, 9.5, FAINT) for line in textwrap.wrap(remark, round(12 * width))]
    total = height + 0.22 * len(lines) + 0.26 * legend + MARGIN
    layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN, rect=(0, 0, 1, height / total))
    figure = Figure(figsize=(width, total), dpi=DPI, layout=layout, facecolor=_hexadecimal([PAPER])[0])
    FigureCanvasAgg(figure)
    for i, (line, size, colour) in enumerate(lines):
        y = 1 - (MARGIN + 0.22 * i) / total
        figure.text(MARGIN / width, y, _plain(line), fontsize=size, color=_hexadecimal([colour])[0], va="top")
    axes = figure.add_subplot(facecolor="none")
    axes.spines[:].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: str | Path) -> None:
    canvas: Any = figure.canvas
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters that its fonts lack become boxes
        canvas.draw()
    save_image(path, np.asarray(canvas.buffer_rgba())[..., :3])


def _left_out(count: int) -> str:
    return f"left out: {count} class{'es' * (count > 1)}, neither labelled nor predicted" if count else ""


def _short(name: str) -> str:
    """On one line, and no longer than a chart has room for."""
    return _plain(name if len(name) <= LONGEST else name[: LONGEST - 3].rstrip() + "...")


def _plain(text: str) -> str:
    """Dollar signs are dollar signs, not formulas."""
    return text.replace("$", r"\$")


def _hexadecimal(colours: Any) -> list[str]:
    return ["#" + bytes(int(value) for value in colour).hex() for colour in colours]


# --- Contact sheet ----------------------------------------------------------------------------------


def contact_sheet(path: str | Path, rows: Sequence[Row], classes: Sequence[str], title: str) -> None:
    """Pictures, their labels and what each method made of them, side by side, with a legend under each row.

    Labels lie over the picture in grey. Ignored pixels are hatched: nothing is known of them. A class named
    "background" stays without a colour.

    Args:
        path: PNG or JPEG.
        rows: one picture each; all have the same methods.
        classes: C names.
        title: what was measured.

    Raises:
        UserError: the file cannot be written.
    """
    columns = ["picture", "truth", *rows[0][3]]
    captions = [caption for caption, *_ in rows]
    face = typeface([title, *columns, *captions, *classes])
    width, gap = 420 if len(columns) <= 5 else 320, 14
    room = len(columns) * (width + gap) - gap
    em = max(19, room // 105)  # wide sheets are seen from further away
    parts = [_line(title, room, face(1.3 * em), INK, 2 * em), _headings(columns, width, gap, face(em))]
    colours = np.full((len(classes), 4), OPACITY, np.float32)  # RGB and opacity
    colours[:, :3] = palette(len(classes))[1:]
    for i, name in enumerate(classes):
        if name == BACKGROUND:
            colours[i] = 0, 0, 0, OPACITY / 2
    for caption, picture, target, predictions in rows:
        maps = [target, *predictions.values()]
        panels = [_fit(picture, width), *(_painted(picture, labels, colours, width) for labels in maps)]
        strip = Image.new("RGB", (room, panels[0].height), PAPER)
        for i, panel in enumerate(panels):
            strip.paste(panel, (i * (width + gap), 0))
        parts += [_line(caption, room, face(em), INK, round(1.6 * em)), strip]
        parts += [_row_legend(maps, classes, colours, room, em, face), Image.new("RGB", (room, em), PAPER)]
    margin = em
    sheet = Image.new("RGB", (room + 2 * margin, sum(part.height for part in parts) + 2 * margin), PAPER)
    y = margin
    for part in parts:
        sheet.paste(part, (margin, y))
        y += part.height
    save_image(path, np.asarray(sheet))


def _size(shape: tuple[int, ...], width: int) -> tuple[int, int]:
    """Width and height of a panel: `width` across, or less where the picture is tall."""
    scale = min(width / shape[1], TALLEST / shape[0])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _fit(picture: np.ndarray, width: int) -> Image.Image:
    return Image.fromarray(picture).resize(_size(picture.shape, width), Image.Resampling.LANCZOS)


def _painted(picture: np.ndarray, labels: np.ndarray, colours: np.ndarray, width: int) -> Image.Image:
    """Labels over the grey picture, ignored ones hatched."""
    small = _size(picture.shape, width)
    grey = np.asarray(_fit(picture, width).convert("L"), np.float32)[..., None]
    index = cv2.resize(labels.astype(np.int16), small, interpolation=cv2.INTER_NEAREST_EXACT)
    colour, opacity = np.split(colours[np.maximum(index, 0)], [3], axis=-1)  # [h, w, 3], [h, w, 1]
    painted = (1 - opacity) * grey + opacity * colour
    painted = np.where((index == IGNORED)[..., None], _hatched(small[1], small[0]), painted)
    return Image.fromarray(np.rint(painted).astype(np.uint8))


def _hatched(height: int, width: int) -> np.ndarray:
    """Grey stripes, [height, width, 3]."""
    stripe = np.add.outer(np.arange(height), np.arange(width)) % 8 < 3
    return np.where(stripe, 120, 235)[..., None].repeat(3, axis=2)


def _row_legend(
    maps: Sequence[np.ndarray], classes: Sequence[str], colours: np.ndarray, room: int, em: int, face: Face
) -> Image.Image:
    """Chips and names: the classes of the truth by area, then those that are predicted only, as many as fit."""
    font = face(0.9 * em)
    areas = [np.bincount(labels[labels != IGNORED].ravel(), minlength=len(classes)) for labels in maps]
    true, predicted = areas[0], sum(areas[1:], np.zeros(len(classes), np.int64))
    order: list[int] = sorted(np.flatnonzero(true + predicted).tolist(), key=lambda i: (-true[i], -predicted[i]))
    entries: list[tuple[str, Any]] = [(classes[i], colours[i]) for i in order if true[i]]
    if (maps[0] == IGNORED).any():
        entries.append(("ignored", None))
    only = [(classes[i], colours[i]) for i in order if not true[i]]
    if only:
        entries += [("predicted only:", "text"), *only]

    step, chip, most = round(1.5 * em), round(0.8 * em), 14 * em
    panel = Image.new("RGB", (room, LEGEND_LINES * step + em // 2), PAPER)
    draw = ImageDraw.Draw(panel)
    x, line = 0, 0
    for n, (name, colour) in enumerate(entries):
        text = ellipsis(name, most, font)
        needed = round(font.getlength(text)) + (0 if isinstance(colour, str) else chip + em // 2)
        rest = f"and {len(entries) - n} more"
        last = line == LEGEND_LINES - 1
        if x and x + needed + (font.getlength(rest) + em if last and n < len(entries) - 1 else 0) > room:
            if last:
                draw.text((x, (line + 0.5) * step + em // 4), rest, FAINT, font, anchor="lm")
                break
            x, line = 0, line + 1
        middle = round((line + 0.5) * step) + em // 4
        if isinstance(colour, str):
            draw.text((x, middle), text, FAINT, font, anchor="lm")
        else:
            _chip(panel, (x, middle - chip // 2), chip, colour)
            draw.text((x + chip + em // 2, middle), text, INK, font, anchor="lm")
        x += needed + round(1.2 * em)
    return panel.crop((0, 0, room, (line + 1) * step + em // 2))


def _chip(panel: Image.Image, corner: tuple[int, int], side: int, colour: np.ndarray | None) -> None:
    """A square of the legend, hatched for ignored pixels."""
    if colour is None:
        square = _hatched(side, side)
    else:
        square = np.full((side, side, 3), np.rint((1 - colour[3]) * 128 + colour[3] * colour[:3]))
    panel.paste(Image.fromarray(square.astype(np.uint8)), corner)
    draw = ImageDraw.Draw(panel)
    draw.rectangle((*corner, corner[0] + side - 1, corner[1] + side - 1), outline=EMPTY)


def _line(text: str, room: int, font: Any, colour: Any, height: int) -> Image.Image:
    part = Image.new("RGB", (room, height), PAPER)
    ImageDraw.Draw(part).text((0, height / 2), ellipsis(text, room, font), colour, font, anchor="lm")
    return part


def _headings(columns: Sequence[str], width: int, gap: int, font: Any) -> Image.Image:
    """The names of the columns, each over its own."""
    part = Image.new("RGB", (len(columns) * (width + gap) - gap, round(1.6 * font.size)), PAPER)
    draw = ImageDraw.Draw(part)
    for i, name in enumerate(columns):
        draw.text((i * (width + gap), part.height / 2), ellipsis(name, width, font), FAINT, font, anchor="lm")
    return part
