"""Overlays of labels and heat maps of scores on an image.

Everywhere ``index`` is [H, W] of label ids: 0 is no label, i + 1 is ``labels[i]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from pacl.printing import decimals
from pacl.results.legend import Entry, Legend, with_colour_bar, with_legend
from pacl.results.palette import palette

MIN_SIDE = 32  # pixels; an image one pixel wide would not be visible


def fit(image: np.ndarray, long_side: int = 2000) -> np.ndarray:
    """Resize an image to the size that it is drawn at.

    Args:
        image: RGB uint8 [H, W, 3].
        long_side: larger images are scaled down to it; those under 800 pixels are enlarged to 800 or to it, so that
            outlines can be seen.

    Returns:
        RGB uint8 [H', W', 3].
    """
    height, width = image.shape[:2]
    scale = min(long_side, max(800, height, width)) / max(height, width)
    size = (max(round(width * scale), MIN_SIDE), max(round(height * scale), MIN_SIDE))
    if size == (width, height):
        return image
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


# --- Overlay ----------------------------------------------------------------------------------------


def overlay(
    image: np.ndarray, index: np.ndarray, labels: Sequence[str], *, opacity: float = 0.5, long_side: int = 2000
) -> np.ndarray:
    """The image with its labels drawn over it, and a legend below it, or beside it if it is tall.

    The legend lists the labels found, the largest first, with their shares of the pixels, then those not found.

    Args:
        image: RGB uint8 [H, W, 3].
        index: label ids [H, W].
        labels: names of ids 1, 2, ...
        opacity: of the fill, 0 to 1.
        long_side: as in `fit`.

    Returns:
        RGB uint8 [H', W', 3].
    """
    return with_legend(paint_labels(image, index, opacity=opacity, long_side=long_side), label_legend(index, labels))


def label_legend(index: np.ndarray, labels: Sequence[str]) -> Legend:
    """The legend of `overlay`."""
    shares, colours = _shares(index, len(labels)), palette(len(labels))
    order = sorted(range(1, len(labels) + 1), key=lambda i: -shares[i])
    entries = [Entry(labels[i - 1], float(shares[i]), tuple(map(int, colours[i]))) for i in order if shares[i] > 0]
    if shares[0] > 0:
        entries.append(Entry("background", float(shares[0]), None))
    return Legend(entries, "no pixels", [label for label, share in zip(labels, shares[1:], strict=True) if share == 0])


def _shares(index: np.ndarray, count: int) -> np.ndarray:
    """Share of the pixels of each id 0..count, float64 [count + 1]."""
    rows = max(1, 2**20 // index.shape[1])  # bincount copies to int64: in bands, to bound the memory
    bands = (index[start : start + rows] for start in range(0, len(index), rows))
    return np.sum([np.bincount(band.ravel(), minlength=count + 1) for band in bands], axis=0) / index.size


def paint_labels(image: np.ndarray, index: np.ndarray, *, opacity: float = 0.5, long_side: int = 2000) -> np.ndarray:
    """Draw each label as a translucent fill with a solid outline, both anti-aliased; the rest loses some colour.

    Args:
        image: RGB uint8 [H, W, 3].
        index: label ids [H, W]; their colours are those of `palette`.
        opacity: of the fill, 0 to 1.
        long_side: as in `fit`.

    Returns:
        RGB uint8 [H', W', 3], without a legend.
    """
    if index.shape != image.shape[:2]:
        raise ValueError(f"index {index.shape} and image {image.shape} differ in height or width")
    image = fit(image, long_side)
    softness = max(0.9, 0.42 * max(image.shape) / max(index.shape))  # sigma that smooths the steps of enlarged pixels
    if index.shape != image.shape[:2]:
        index = cv2.resize(index.astype(np.uint16), image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    colours = palette(int(index.max(initial=0))).astype(np.float32)
    line = max(2.2, max(image.shape) / 400)  # pixels
    planes = list(np.moveaxis(image, 2, 0).astype(np.float32, order="C"))  # [H, W] each: faster than [H, W, 3]
    unlabelled = np.clip(_depth(index == 0, softness) + 0.5, 0, 1)
    _blend(planes, 0.45 * unlabelled, [sum(planes) / 3] * 3)
    halo_width = min(1.5, 1.2 * softness)
    margin = math.ceil(4 * softness)
    for label in np.flatnonzero(np.bincount(index.ravel())[1:]) + 1:
        x, y, w, h = cv2.boundingRect((index == label).view(np.uint8))
        window = slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)
        depth = _depth(index[window] == label, softness)
        fill = np.clip(depth + 0.5, 0, 1)
        edge = fill * np.clip(line + 0.5 - depth, 0, 1)
        halo = np.clip(halo_width + depth, 0, 1) * (1 - fill) * unlabelled[window]
        part = [plane[window] for plane in planes]
        _blend(part, 0.55 * halo, [255.0] * 3)  # a light rim outside the outline
        _blend(part, np.maximum(opacity * fill, 0.95 * edge), colours[label])
    return cv2.merge([cv2.convertScaleAbs(plane) for plane in planes])  # rounded


def _blend(planes: Sequence[np.ndarray], opacity: np.ndarray, colour: Sequence[np.ndarray | float]) -> None:
    """Draw a colour over an image in place: float32 [H, W] for each channel, and the opacity."""
    for plane, value in zip(planes, colour, strict=True):
        plane += opacity * (value - plane)


def _depth(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Distance in pixels from the edge of a mask, positive inside, smooth enough for anti-aliasing.

    A mask blurred by sigma has slope 1 / (sigma sqrt(2 pi)) at its edge. Near the edge the distance is computed from
    the blurred value, which has no pixel steps; further inside it is the exact distance; far outside it stays at
    about -1.25 sigma.
    """
    if mask.all():  # no edge
        return np.full(mask.shape, 1e6, np.float32)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    soft -= 0.5
    soft *= sigma * math.sqrt(2 * math.pi)
    deep = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    return np.where(deep <= sigma + 0.5, soft, deep - 0.5)


# --- Heat map ---------------------------------------------------------------------------------------


def heat_map(
    image: np.ndarray,
    scores: np.ndarray,
    title: str = "",
    *,
    limits: tuple[float, float] | None = None,
    opacity: float = 0.8,
    long_side: int = 2000,
) -> np.ndarray:
    """The scores of one text as colours over the grey image, with a title and a colour bar.

    Args:
        image: RGB uint8 [H, W, 3].
        scores: cosines or probabilities, float [H, W].
        title: the text, for example.
        limits: scores at the ends of the colour bar; by default the smallest and the largest of the map.
        opacity: of the colours, 0 to 1.
        long_side: as in `fit`.

    Returns:
        RGB uint8 [H', W', 3].
    """
    finite = np.nan_to_num(scores.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = limits if limits is not None else score_limits([finite])
    painted = paint_scores(image, finite, (low, high), opacity=opacity, long_side=long_side)
    left, right = (decimals(value, 2) if abs(value) < 1000 else f"{value:.3g}" for value in (low, high))
    return with_colour_bar(painted, title, (left, right), colour_map)


def score_limits(maps: Iterable[np.ndarray]) -> tuple[float, float]:
    """Smallest and largest score of several maps, so that their colours can be compared."""
    ends = [(float(scores.min()), float(scores.max())) for scores in maps]
    return min(low for low, _ in ends), max(high for _, high in ends)


def paint_scores(
    image: np.ndarray,
    scores: np.ndarray,
    limits: tuple[float, float],
    *,
    opacity: float = 0.8,
    long_side: int = 2000,
) -> np.ndarray:
    """The image of `heat_map` without title and colour bar; the scores are finite."""
    if scores.shape != image.shape[:2]:
        raise ValueError(f"scores {scores.shape} and image {image.shape} differ in height or width")
    image, (low, high) = fit(image, long_side), limits
    level = cv2.resize((scores - low) / max(high - low, 1e-12), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = colour_map(level).astype(np.float32)
    grey = image.mean(axis=2, keepdims=True, dtype=np.float32)
    strength = opacity * (0.6 + 0.4 * np.clip(level, 0, 1))[..., None]  # low scores leave more of the image visible
    return np.clip(np.rint(grey + strength * (colours - grey)), 0, 255).astype(np.uint8)


def colour_map(level: np.ndarray) -> np.ndarray:
    """[H, W] in 0..1 -> RGB uint8 [H, W, 3]."""
    values = np.rint(np.clip(level, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
