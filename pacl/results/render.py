"""Results out: palette masks, overlays with a legend, heat maps, a summary, and the files of all of them.

Everywhere `index` is [H, W] of label ids: 0 is background or none, i + 1 is `labels[i]`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from pacl.files import atomic_write
from pacl.results.coco import box, polygons, rles
from pacl.results.legend import with_colour_bar, with_legend

# --- Colours ----------------------------------------------------------------------------------------

# Far apart for colour-blind eyes too: near ones in the list differ in lightness, not only in hue.
_COLOURS = (
    *("2f7de1", "ff9f1c", "e0325b", "2ec4a0", "6b2fb3", "d6dc3a", "ff9ccb", "66cdf7", "7a4320", "1e6b46"),
    *("ff6f59", "b7a8f5", "f2c230", "3a3ab8", "d63fb8", "f7cfae", "8fe07a", "7292ad", "8a1f4d", "b5ebe4"),
)


def palette(count: int) -> np.ndarray:
    """Colours of ids 0..count, uint8 [count + 1, 3]: 0 is black, the rest never changes with `count`.

    Twenty are chosen by hand; further ones step round the hue circle of OKLCH (Ottosson 2020) by the golden
    angle, at three lightnesses in turn.
    """
    chosen = np.array([[0, 0, 0], *(tuple(bytes.fromhex(colour)) for colour in _COLOURS)], np.uint8)
    if count < len(chosen):
        return chosen[: count + 1]
    n = np.arange(count + 1 - len(chosen))
    lightness = np.array([0.72, 0.55, 0.84])[n % 3] - 0.03 * (n // 60 % 4)  # nearly the same hue, not the colour
    chroma = np.array([0.13, 0.15, 0.1])[n % 3]
    hue = n * math.pi * (3 - math.sqrt(5))
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms = (
        np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ]
        )
        ** 3
    )
    to_linear_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear_rgb @ lms, 0, 1).T
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.concatenate([chosen, np.rint(srgb * 255).astype(np.uint8)])


# --- Overlay ----------------------------------------------------------------------------------------


def overlay(
    image: np.ndarray,
    index: np.ndarray,
    labels: Sequence[str],
    *,
    opacity: float = 0.5,
    long_side: int = 2000,
) -> np.ndarray:
    """The picture with its labels laid over it, and a legend that hides nothing of it.

    Every label is a translucent fill with a solid outline; unlabelled pixels lose some colour. The legend,
    below wide pictures and beside tall ones, lists the labels found by share, then names those not found.

    Args:
        image: RGB uint8 [H, W, 3].
        index: Label ids [H, W].
        labels: Names of ids 1, 2, ...
        opacity: Of the fill, 0 to 1.
        long_side: Pixels; larger pictures are drawn scaled down to it (time and memory stay bounded), small
            ones are enlarged so that outlines and letters can be seen.

    Returns:
        RGB uint8 [H', W', 3].
    """
    picture, drawn = _fit(image, index, long_side)
    softness = max(0.9, 0.42 * max(drawn.shape) / max(index.shape))  # rounds off the blocks of enlarged pixels
    painted = _paint(picture, drawn, palette(len(labels)).astype(np.float32), opacity, softness)
    return with_legend(painted, _shares(index, len(labels)), labels, palette(len(labels)))


def _fit(image: np.ndarray, index: np.ndarray, long_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and ids at the size they are drawn: long side at most `long_side`, never under 800 pixels."""
    if index.shape != image.shape[:2]:
        raise ValueError(f"index {index.shape} and image {image.shape} differ in height or width")
    height, width = index.shape
    scale = min(long_side, max(800, height, width)) / max(height, width)
    # A picture one pixel wide would vanish: it is drawn wider than it is.
    size = (max(round(width * scale), 32), max(round(height * scale), 32))
    if size == (width, height):
        return image, index
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    ids = cv2.resize(index.astype(np.uint16), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=how), ids


def _paint(picture: np.ndarray, index: np.ndarray, colours: np.ndarray, opacity: float, softness: float) -> np.ndarray:
    """Fills and outlines, both anti-aliased: RGB uint8 [H, W, 3]."""
    line = max(2.2, max(picture.shape) / 400)  # pixels
    grey = picture.mean(axis=2, keepdims=True, dtype=np.float32)
    canvas = picture.astype(np.float32)
    nothing = np.clip(_depth(index == 0, softness) + 0.5, 0, 1)[..., None]  # 1 where there is no label
    canvas += nothing * (0.45 * (grey - canvas))
    rim = min(1.5, 1.2 * softness)
    margin = math.ceil(4 * softness)
    for label in np.unique(index[index > 0]):
        x, y, w, h = cv2.boundingRect((index == label).astype(np.uint8))
        window = slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)
        depth = _depth(index[window] == label, softness)[..., None]
        fill = np.clip(depth + 0.5, 0, 1)
        edge = fill * np.clip(line + 0.5 - depth, 0, 1)
        halo = np.clip(rim + depth, 0, 1) * (1 - fill) * nothing[window]
        canvas[window] += 0.55 * halo * (255 - canvas[window])  # a light rim lifts the shape off the picture
        canvas[window] += np.maximum(opacity * fill, 0.95 * edge) * (colours[label] - canvas[window])
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _depth(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Distance in pixels from a mask's edge, positive inside, smooth enough to draw anti-aliased shapes with.

    A mask blurred by sigma has slope 1 / (sigma sqrt(2 pi)) at its edge: near it, the blurred value tells the
    distance, without the staircase of the pixels. Deeper inside the exact distance takes over; far outside the
    value stays at about -1.25 sigma.
    """
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    near = (soft - 0.5) * (sigma * math.sqrt(2 * math.pi))
    if mask.all():  # no edge at all: the label fills the picture
        return np.full_like(near, 1e6)
    deep = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return np.where(deep <= sigma + 0.5, near, deep - 0.5)


# --- Heat map ---------------------------------------------------------------------------------------


def heat(
    image: np.ndarray,
    scores: np.ndarray,
    title: str = "",
    *,
    limits: tuple[float, float] | None = None,
    opacity: float = 0.8,
    long_side: int = 2000,
) -> np.ndarray:
    """How strongly each pixel answers to a text: a perceptually even colour map over the grey picture.

    Args:
        image: RGB uint8 [H, W, 3].
        scores: Cosines or probabilities, float [H, W].
        title: What the text was; stands above the colour bar.
        limits: Scores at the ends of the colour bar; the map's own smallest and largest by default.
        opacity: Of the colours, 0 to 1.
        long_side: As in `overlay`.

    Returns:
        RGB uint8 [H', W', 3].
    """
    picture, _ = _fit(image, np.zeros(image.shape[:2], np.uint8), long_side)
    if scores.shape != image.shape[:2]:
        raise ValueError(f"scores {scores.shape} and image {image.shape} differ in height or width")
    finite = np.nan_to_num(scores.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = limits if limits is not None else (float(finite.min()), float(finite.max()))
    level = cv2.resize((finite - low) / max(high - low, 1e-12), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = _colour_map(level).astype(np.float32)
    grey = picture.mean(axis=2, keepdims=True, dtype=np.float32)
    strength = opacity * (0.6 + 0.4 * np.clip(level, 0, 1))[..., None]  # where little is, the picture shows
    mixed = np.clip(np.rint(grey + strength * (colours - grey)), 0, 255).astype(np.uint8)
    return with_colour_bar(mixed, title, (f"{low:.3g}", f"{high:.3g}"), _colour_map)


def _colour_map(level: np.ndarray) -> np.ndarray:
    """[H, W] in 0..1 -> RGB uint8 [H, W, 3]."""
    values = np.rint(np.clip(level, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


# --- Summary ----------------------------------------------------------------------------------------


def summary(
    index: np.ndarray,
    labels: Sequence[str],
    prompts: Sequence[Sequence[str]] | None = None,
    scores: Sequence[float | None] | None = None,
    *,
    masks: bool = True,
    outlines: bool = False,
) -> list[dict[str, Any]]:
    """Per label, what was found; everything is JSON-serialisable.

    Args:
        index: Label ids [H, W].
        labels: Names of ids 1, 2, ..., C of them.
        prompts: The prompts of each label.
        scores: The mean score of each label over its pixels; not finite becomes null.
        masks: Add each label's COCO RLE (``rle``).
        outlines: Add each label's COCO polygons (``polygons``).

    Returns:
        C dictionaries: ``label``, ``id``, ``prompts``, ``share`` (of the picture's pixels, 0 to 1), ``score``,
        ``box`` ([x, y, width, height] or null), and what was asked for.
    """
    shares = _shares(index, len(labels))
    found = []
    for i, (label, encoded) in enumerate(zip(labels, rles(index, len(labels)), strict=True)):
        score = None if scores is None else scores[i]
        entry: dict[str, Any] = {
            "label": label,
            "id": i + 1,
            "prompts": list(prompts[i]) if prompts is not None else [label],
            "share": float(shares[i + 1]),
            "score": None if score is None or not math.isfinite(score) else float(score),
            "box": box(encoded),
        }
        if masks:
            entry["rle"] = encoded
        if outlines:
            entry["polygons"] = polygons(index == i + 1) if entry["box"] else []
        found.append(entry)
    return found


def _shares(index: np.ndarray, count: int) -> np.ndarray:
    """Part of the pixels of each id 0..count, float64 [count + 1]."""
    rows = max(1, 2**20 // index.shape[1])  # bincount makes 8 bytes of every id: not of all at once
    bands = (index[start : start + rows] for start in range(0, len(index), rows))
    return np.sum([np.bincount(band.ravel(), minlength=count + 1) for band in bands], axis=0) / index.size


# --- Files: whole or not at all ---------------------------------------------------------------------


def save_mask(path: str | Path, index: np.ndarray) -> None:
    """Write label ids as a palette PNG (8 bit, in the overlay's colours); above 255 labels as 16-bit grey."""
    if index.max(initial=0) <= 255:
        picture = Image.fromarray(index.astype(np.uint8))
        picture.putpalette(palette(255).tobytes())  # makes it a palette picture
    else:
        picture = Image.fromarray(index.astype(np.uint16))
    write_whole(path, lambda file: picture.save(file, format="PNG"))


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write RGB uint8 [H, W, 3] in the format of the suffix: PNG, JPEG or WebP."""
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(Path(path).suffix.lower(), "PNG")
    write_whole(path, lambda file: Image.fromarray(image).save(file, format=kind, quality=92))


def save_json(path: str | Path, value: Any) -> None:
    """Write a JSON file."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a file aside that then takes its place: no reader ever meets half a file.

    Raises:
        UserError: It cannot be written.
    """
    with atomic_write(Path(path)) as aside, open(aside, "wb") as file:
        write(file)
