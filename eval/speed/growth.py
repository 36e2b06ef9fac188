"""Time and peak memory against the size of an image, the number of classes, of images in a batch, and of texts.

The case of a row is what grows, and its size of that name how much there is of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from eval.speed.measure import Options, Row, Way, compare, free
from eval.speed.phi import ways as phi_ways
from eval.speed.segment import label, photo, query, segmenter_of, tower_of
from pacl.models.loading import load_model
from pacl.models.model import PACL

IMAGE_SIZE, CLASSES, BATCH, TEXTS = "image size in pixels", "classes", "images in a batch", "texts"
VALUES = {
    IMAGE_SIZE: (112, 224, 448, 896),
    CLASSES: (5, 20, 80, 160),
    BATCH: (1, 2, 4, 8, 16),
    TEXTS: (64, 128, 256, 512),
}
QUICK_VALUES = {IMAGE_SIZE: (32, 64), CLASSES: (2, 4), BATCH: (1, 2), TEXTS: (4, 8)}
GPU_TEXTS = (256, 1024, 4096, 16384)


def rows(options: Options) -> Iterator[Row]:
    """Segmentation with the first model, and phi."""
    values = dict(QUICK_VALUES if options.quick else VALUES)
    if options.device.type == "cuda" and not options.quick:
        values[TEXTS] = GPU_TEXTS
    model = load_model(options.models[0], device=options.device)
    grown = {
        IMAGE_SIZE: [way for side in values[IMAGE_SIZE] for way in at_size(model, side)],
        CLASSES: [at_classes(model, count, values[IMAGE_SIZE][-2]) for count in values[CLASSES]],
        BATCH: [way for count in values[BATCH] for way in at_batch(model, count, values[IMAGE_SIZE][1])],
        TEXTS: [way for count in values[TEXTS] for way in at_texts(count, options)],
    }
    for axis, ways in grown.items():
        yield from compare("growth", axis, ways, options)
        free(options.device)


def at_size(model: PACL, side: int) -> list[Way]:
    """One square image that is labelled with 20 classes at its own size."""
    segmenter, sizes = segmenter_of(model, "fp32", size=side, scales=(1.0,)), {IMAGE_SIZE: side}
    tower = Way("tower", tower_of(segmenter, 1, side), sizes=sizes)
    run = label(segmenter, photo(side, side), query(segmenter, 20))
    return [tower, Way("set_image + predict, 20 classes", run, limit=tower, sizes=sizes)]


def at_classes(model: PACL, count: int, side: int) -> Way:
    """`Segmenter.predict` alone."""
    segmenter = segmenter_of(model, "fp32", size=side, scales=(1.0,))
    segmenter.set_image(photo(side, side))
    encoded = query(segmenter, count)
    return Way(f"predict, {side} px", lambda: segmenter.predict(encoded), sizes={CLASSES: count})


def at_batch(model: PACL, count: int, side: int) -> list[Way]:
    """`Segmenter.predict_batch` with 20 classes."""
    segmenter = segmenter_of(model, "fp32", size=side, scales=(1.0,), window_batch=count)
    images, encoded, sizes = [photo(side, side)] * count, query(segmenter, 20), {BATCH: count}
    tower = Way("tower", tower_of(segmenter, count, side), items=count, sizes=sizes)
    run = lambda: segmenter.predict_batch(images, encoded)  # noqa: E731
    return [tower, Way(f"predict_batch, {side} px", run, limit=tower, items=count, sizes=sizes)]


def at_texts(count: int, options: Options) -> list[Way]:
    """phi of 64 images, of 196 patches of 512 dimensions, and its gradient."""
    B, P, D = (4, 16, 32) if options.quick else (64, 196, 512)
    torch.manual_seed(0)
    return [
        replace(way, sizes={TEXTS: count, **way.sizes}, reference=None, limit=None)
        for way in phi_ways(B, count, P, D, "fp32", options.device)
    ]
