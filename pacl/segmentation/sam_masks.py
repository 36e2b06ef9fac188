"""Sharper masks by SAM: the regions that a label won become boxes and points, and SAM's masks take their place.

    class probabilities --find_regions--> boxes, points --Sam.masks--> logits --Claims--> ids of all pixels

All but the last step is done on the grid of SAM's masks, of at most 256 x 256 cells for the published models, so memory
does not depend on the size of the image. The words stay: SAM only says where the things end that the words found.

- A region is a connected part of a label's pixels with at least `MIN_SHARE` of the image. Smaller ones, and the
  background, are left as they are.
- SAM answers with several masks, for a prompt may mean a part, a thing or a group of things. The one that agrees best
  with the region (IoU) is taken, not the one that SAM itself expects to be most exact: the region says which of them is
  meant. It is no prompt itself, since its blocky outline is what is to be replaced.
- A mask that hardly agrees with its region (`MIN_AGREEMENT`) is of something else. The region then stays as it is.
- Where masks of several labels overlap, the most probable of these labels wins.
- A pixel in no mask becomes background if it belonged to a region that was replaced and a background rule holds, since
  SAM says that the thing ends before it. Otherwise it keeps its label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from pacl.models.sam import PROMPTS_AT_ONCE, Features, Sam
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.query import Query
from pacl.segmentation.scoring import ClassMaps, Decision, decide, decisions, pixel_maps

MIN_SHARE = 0.001
"""Share of the image that a region must have: about 8 x 8 of 256 x 256 cells. It also bounds their number."""
POINTS = 3
"""Points in each region."""
MIN_AGREEMENT = 0.25
"""IoU of a region and its mask below which the mask is of something else. Correct masks of thin things have low values,
too: their regions are as wide as the patches."""
NOWHERE = -1e4
"""Logit of cells in no mask; finite, so that it can be interpolated."""


@dataclass(frozen=True, eq=False)
class Region:
    """A connected part of a label's pixels, in cells of the grid."""

    id: int
    """Of the label."""
    cells: np.ndarray
    """bool [h, w]"""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1: the first and last column and row."""
    points: list[tuple[int, int]]
    """`POINTS` cells x, y."""


def find_regions(ids: np.ndarray, probabilities: np.ndarray) -> Iterator[Region]:
    """The regions of the labels.

    Args:
        ids: [h, w], of the most probable class; 0 is background.
        probabilities: [h, w], of that class.
    """
    for i in np.unique(ids[ids > 0]).tolist():
        count, parts, about, _ = cv2.connectedComponentsWithStats((ids == i).astype(np.uint8), connectivity=8)
        for part in range(1, count):
            x, y, width, height, area = (int(value) for value in about[part])
            if area < MIN_SHARE * ids.size:
                continue
            cells = parts == part
            inside = np.s_[y : y + height, x : x + width]
            points = [(x + px, y + py) for px, py in peaks(probabilities[inside], cells[inside])]
            yield Region(i, cells, (x, y, x + width - 1, y + height - 1), points)


def peaks(probabilities: np.ndarray, cells: np.ndarray) -> list[tuple[int, int]]:
    """The most probable cells of a region that are not close to each other, `POINTS` of them.

    Probabilities are smooth: without a distance, all would lie at the same spot.

    Args:
        probabilities: [h, w]
        cells: bool [h, w], the region. In one too small for so many, the first is repeated.
    """
    left = np.where(cells, probabilities, -1.0)
    rows, columns = np.ogrid[: left.shape[0], : left.shape[1]]
    reach = cells.sum() / (4 * POINTS)  # squared distance: the circles around the points cover most of the region
    found: list[tuple[int, int]] = []
    while len(found) < POINTS and left.max() >= 0:
        y, x = np.unravel_index(left.argmax(), left.shape)
        found.append((int(x), int(y)))
        left[(rows - y) ** 2 + (columns - x) ** 2 <= reach] = -1.0
    return found + found[:1] * (POINTS - len(found))


@dataclass(frozen=True, eq=False)
class Claims:
    """The pixels that SAM's masks claim for the L labels that have any."""

    ids: list[int]
    """Of the labels."""
    maps: PatchMaps
    """Logits of each label's masks together, values [1, L, h, w]."""
    replaced: PatchMaps
    """Above 0 in the regions that masks replace, and just around them, values [1, 1, h, w]."""


def find_claims(probabilities: ClassMaps, sam: Sam, features: Features) -> Claims | None:
    """Ask SAM for the masks of all regions; None if it has none for them."""
    size = probabilities.maps.layout.size
    h, w = sam.grid(size)
    *_, ids, likely = zip(*decisions(probabilities, (h, w)), strict=True)
    won = [torch.cat(rows).cpu().numpy() for rows in (ids, likely)]  # [h, w] each
    logits: dict[int, Tensor] = {}
    replaced = torch.zeros(1, 1, h, w, device=sam.device)
    regions = find_regions(*won)
    while some := list(islice(regions, PROMPTS_AT_ONCE)):
        boxes, points = torch.tensor([each.box for each in some]), torch.tensor([each.points for each in some])
        masks = sam.masks(features, boxes, points, (h, w))  # [P, M, h, w]
        cells = torch.from_numpy(np.stack([each.cells for each in some])).to(masks.device)  # [P, h, w]
        agreement, choice = agreements(masks, cells).max(1)  # [P]
        for n, region in enumerate(some):
            if agreement[n] >= MIN_AGREEMENT:
                before = logits.get(region.id, masks.new_full((h, w), NOWHERE))
                logits[region.id] = torch.maximum(before, masks[n, int(choice[n])])
                replaced[0, 0] += cells[n]
    if not logits:
        return None
    # One cell more: upsampled, a region reaches up to half a cell beyond its cells.
    around = max_pool2d(replaced, 3, stride=1, padding=1) - 0.5
    return Claims(list(logits), pixel_maps(torch.stack(list(logits.values())), size), pixel_maps(around[0], size))


def agreements(logits: Tensor, cells: Tensor) -> Tensor:
    """IoU [P, M] of masks [P, M, h, w] with the regions [P, h, w] that they were asked for."""
    masks, cells = logits > 0, cells[:, None]
    return (masks & cells).sum((2, 3)) / (masks | cells).sum((2, 3))


def sharper_decisions(probabilities: ClassMaps, sam: Sam, features: Features) -> Iterator[Decision]:
    """The class of each pixel as `pacl.segmentation.scoring.decisions` yields it, with regions replaced by SAM's masks.

    Args:
        probabilities: of the classes.
        sam: the SAM.
        features: what it keeps of the image.
    """
    claims = find_claims(probabilities, sam, features)
    if claims is None:
        yield from decisions(probabilities)
        return
    query = probabilities.query
    classes = torch.tensor(query.classes, device=sam.device)  # [K]
    own = torch.tensor([query.classes.index(i) for i in claims.ids], device=sam.device)  # [L]
    spans = probabilities.maps.spans()
    bands = zip(probabilities.bands(), claims.maps.bands(spans=spans), claims.replaced.bands(spans=spans), strict=True)
    for (start, stop, band, winners), (_, _, logits), (_, _, replaced) in bands:
        ids, confidence = decide(band, winners, query.background)  # [rows, W]
        claimed, best = torch.where(logits > 0, band[own], -1.0).max(0)
        given_up = (replaced[0] > 0) & torch.isin(ids, classes[own])
        if may_be_background(query):
            ids = ids.masked_fill(given_up, 0)
        ids = torch.where(claimed >= 0, classes[own][best], ids)
        yield start, stop, ids, torch.where(claimed >= 0, claimed, confidence)


def may_be_background(query: Query) -> bool:
    """Whether a pixel may go without a label."""
    return query.background.kind != "none" or 0 in query.classes
