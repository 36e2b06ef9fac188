"""Contact sheet of a benchmark: images, their ground truth and the predictions of each method.

Shapes: C classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pacl.data.masks import IGNORED
from pacl.images import save_image
from pacl.results.contact_sheet import Row, Tile, contact_sheet
from pacl.results.legend import Entry, Legend
from pacl.results.overlay import fit
from pacl.results.palette import palette

BACKGROUND = "background"
OPACITY = 0.75
"""Opacity of the labels; the background has half of it."""

UNSCORED = 0.35
"""Share of its opacity that a prediction has where the ground truth is ignored."""

MAX_ENTRIES = 24
"""Classes with a swatch in the legend of a row; the others are named below them."""


class Sample(NamedTuple):
    """An image of a `prediction_sheet`.

    Attributes:
        caption: shown above it.
        image: RGB uint8 [H, W, 3].
        target: classes [H, W], 0..C-1 or `IGNORED`.
        predictions: by method, classes [H, W].
    """

    caption: str
    image: np.ndarray
    target: np.ndarray
    predictions: Mapping[str, np.ndarray]


def prediction_sheet(path: str | Path, samples: Sequence[Sample], classes: Sequence[str], title: str) -> None:
    """Images, their ground truth and the predictions of each method side by side, with a legend below each row.

    Ignored pixels are hatched, and predictions there, which no figure counts, are faint. A class named "background" has
    no colour. The shares in the legend are those of the ground truth.

    Args:
        path: PNG or JPEG.
        samples: all with the same methods.
        classes: C names.
        title: what was measured.

    Raises:
        UserError: the file cannot be written.
    """
    side = 420 if len(samples[0].predictions) <= 3 else 320  # long side of an image in pixels
    colours = np.full((len(classes), 4), OPACITY, np.float32)  # RGB and opacity
    colours[:, :3] = palette(len(classes))[1:]
    colours[[name == BACKGROUND for name in classes]] = 0, 0, 0, OPACITY / 2
    rows = [Row(title=title)]
    for caption, image, target, predictions in samples:
        tiles = [Tile(fit(image, side), "image")]
        scored = np.where(target == IGNORED, UNSCORED, 1.0)
        tiles.append(Tile(_paint(tiles[0].image, target, colours), "ground truth"))
        tiles += [Tile(_paint(tiles[0].image, each, colours, scored), name) for name, each in predictions.items()]
        rows.append(Row(tiles, caption, _legend(classes, target, predictions.values())))
    save_image(path, contact_sheet(rows))


def _paint(image: np.ndarray, labels: np.ndarray, colours: np.ndarray, share: np.ndarray | None = None) -> np.ndarray:
    """Labels over the grey image, pixel by pixel, so that single wrong pixels are visible; ignored ones are hatched.

    ``share`` is that of its opacity for each pixel; None: all of it.
    """
    height, width = image.shape[:2]
    labels = cv2.resize(labels.astype(np.int16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    colour, opacity = np.split(colours[np.maximum(labels, 0)], [3], axis=-1)  # [h, w, 3], [h, w, 1]
    if share is not None:
        opacity = opacity * cv2.resize(share, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    stripes = np.where(np.add.outer(np.arange(height), np.arange(width)) % 8 < 3, 120, 235)[..., None]
    painted = np.where((labels == IGNORED)[..., None], stripes, (1 - opacity) * grey + opacity * colour)
    return np.rint(painted).astype(np.uint8)


def _legend(classes: Sequence[str], target: np.ndarray, predictions: Iterable[np.ndarray]) -> Legend:
    """The classes of the ground truth by area, those that are only predicted, then the ignored pixels."""
    areas, predicted = (
        np.sum([np.bincount(labels[labels != IGNORED], minlength=len(classes)) for labels in maps], axis=0)
        for maps in ([target], predictions)
    )
    colours = palette(len(classes))[1:]
    order = [int(i) for i in np.lexsort((-predicted, -areas)) if areas[i] + predicted[i]]
    entries = [
        Entry(
            classes[i] if areas[i] else f"{classes[i]} (predicted only)",
            float(areas[i]) / target.size if areas[i] else None,
            None if classes[i] == BACKGROUND else tuple(map(int, colours[i])),
        )
        for i in order[:MAX_ENTRIES]
    ]
    if ignored := int((target == IGNORED).sum()):
        entries.append(Entry("not scored (hatched, faint)", ignored / target.size, None))
    return Legend(entries, "also", [classes[i] for i in order[MAX_ENTRIES:]])
