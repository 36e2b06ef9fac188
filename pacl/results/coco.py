"""Masks as COCO run lengths (RLE), polygons and boxes, all JSON-serialisable."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pacl.errors import ArgumentError

Masks = Literal["rle", "polygons"]


def rles(index: np.ndarray, count: int) -> list[dict[str, Any]]:
    """COCO run-length encodings of the masks of all ids 1..count, found in one pass over the image.

    Args:
        index: ids [H, W].
        count: number of ids.

    Returns:
        Of each id ``{"size": [H, W], "counts": str}``.
    """
    height, width = index.shape
    flat = index.ravel(order="F")  # COCO counts along the columns
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    stops = np.append(starts[1:], flat.size)
    ids = flat[starts]
    order = np.argsort(ids, kind="stable")
    bounds = np.searchsorted(ids[order], np.arange(1, count + 2))
    encoded = []
    for first, last in itertools.pairwise(bounds):
        runs = order[first:last]
        edges = np.stack([starts[runs], stops[runs]], axis=1).ravel()
        counts = np.diff(np.concatenate([[0], edges, [flat.size]]))  # off, on, off, ...
        counts = counts[:-1] if counts[-1] == 0 else counts  # pycocotools writes no empty last run
        encoded.append(coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width))
    return [{"size": [height, width], "counts": one["counts"].decode("ascii")} for one in encoded]


def box(rle: dict[str, Any]) -> list[int] | None:
    """Bounding box [x, y, width, height] in pixels of an RLE; None if the mask is empty."""
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    return [x, y, w, h] if w and h else None


def dataset(
    index: np.ndarray,
    labels: Sequence[str],
    file_name: str,
    *,
    image_id: int = 1,
    first_id: int = 1,
    masks: Masks = "rle",
) -> dict[str, list[dict[str, Any]]]:
    """One image in COCO's format for instances, which ``pycocotools.coco.COCO`` and annotation tools read.

    Each label that has pixels is one annotation. To put several images with the same labels into one file, give each an
    ``image_id`` and ``first_id`` of its own, and join their ``images`` and ``annotations``.

    Args:
        index: label ids [H, W].
        labels: names of ids 1, 2, ..., which are the ids of the categories.
        file_name: of the image, as it is to stand in the file.
        image_id: id of the image.
        first_id: id of its first annotation; the others follow.
        masks: ``rle``, exact run lengths, or ``polygons``, which more tools can edit.

    Raises:
        ArgumentError: ``masks`` is neither.
    """
    height, width = index.shape
    return {
        "images": [{"id": image_id, "file_name": file_name, "width": width, "height": height}],
        "annotations": [
            {"id": i, "image_id": image_id, **each}
            for i, each in enumerate(label_annotations(index, len(labels), masks), start=first_id)
        ],
        "categories": categories(labels),
    }


def categories(labels: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's categories: the labels, with ids 1, 2, ..."""
    return [{"id": i, "name": label, "supercategory": ""} for i, label in enumerate(labels, start=1)]


def label_annotations(index: np.ndarray, count: int, masks: Masks = "rle") -> list[dict[str, Any]]:
    """COCO's annotation of each label 1..count that has pixels, without ids of image and annotation.

    Raises:
        ArgumentError: ``masks`` is neither of its values.
    """
    if masks not in get_args(Masks):
        raise ArgumentError("masks", masks, f"choose from {', '.join(get_args(Masks))}")
    return [
        {
            "category_id": category,
            "segmentation": rle if masks == "rle" else polygons_of_rle(rle),
            "area": int(coco_mask.area(rle)),
            "bbox": bounds,
            "iscrowd": 0,
        }
        for category, rle in enumerate(rles(index, count), start=1)
        if (bounds := box(rle))
    ]


def label_polygons(index: np.ndarray, count: int) -> list[list[list[list[float]]]]:
    """Outlines of each label 1..count, see `polygons`, as lists of points [x, y]; a label without pixels has none."""
    flat = [polygons_of_rle(rle) for rle in rles(index, count)]
    return [[[list(point) for point in zip(ring[::2], ring[1::2], strict=True)] for ring in rings] for rings in flat]


def polygons_of_rle(rle: dict[str, Any]) -> list[list[float]]:
    """`polygons` of an RLE."""
    return polygons(coco_mask.decode(rle)) if box(rle) else []


def polygons(mask: np.ndarray, tolerance: float = 0.5) -> list[list[float]]:
    """Outlines of a mask as COCO polygons ``[x1, y1, x2, y2, ...]``, one for each connected part.

    Coordinates are pixel edges: the pixel in the upper left corner covers 0..1. COCO polygons have no holes; a hole is
    joined to the outer ring by a bridge of zero width, which both even-odd and winding fills handle.

    Args:
        mask: bool [H, W].
        tolerance: pixels by which an outline may be simplified; 0 keeps every corner.
    """
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if not w:
        return []
    # cv2 follows pixel centres: with pixel (y, x) enlarged to the points 2y..2y+2, 2x..2x+2 it follows pixel edges.
    # (This joins diagonal neighbours and makes holes half a pixel smaller, but moves no pixel in or out of the mask.)
    fine = cv2.resize(mask[y : y + h, x : x + w].astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    fine = cv2.dilate(np.pad(fine, ((0, 1), (0, 1))), np.ones((2, 2), np.uint8), anchor=(1, 1))
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [cv2.approxPolyDP(ring, 2 * tolerance, closed=True)[:, 0] if tolerance else ring[:, 0] for ring in contours]
    found = []
    for ring, (_, _, hole, parent) in zip(rings, hierarchy[0], strict=True):
        if parent >= 0 or len(ring) < 3:
            continue
        holes = []
        while hole >= 0:
            if len(rings[hole]) >= 3:
                holes.append(rings[hole])
            hole = hierarchy[0][hole][0]
        points = _join(ring, holes) / 2 + (x, y)
        found.append([float(value) for value in points.ravel()])
    return found


def _join(ring: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One ring [N, 2] that goes to each hole from the corner next to it, around it and back the same way."""
    detours: dict[int, list[np.ndarray]] = {}
    for hole in holes:
        distance = ((ring[:, None] - hole[None]) ** 2).sum(-1)
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        detours.setdefault(int(i), []).append(np.concatenate([hole[j:], hole[: j + 1], ring[i : i + 1]]))
    return np.concatenate([part for i in range(len(ring)) for part in (ring[i : i + 1], *detours.get(i, ()))])
