"""Counts of the images of a benchmark, block by block, with every method and list of names on the same patch vectors.

A block is `BLOCK` consecutive images. It is measured by one process, which writes its counts to a file. A run that was
killed continues with the missing blocks. The blocks do not depend on the number of processes, so neither does the
result.

Shapes: I images, R rows of the table, C classes, N prompts, D embedding, H W pixels, h w the patch grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from eval.common.memory import peak_memory, reset_peak_memory
from eval.segmentation.boundary import boundary_areas
from eval.segmentation.counts import Counts
from eval.segmentation.patch_labels import majorities, patch_counts, upper_bound
from eval.segmentation.protocol import Protocol
from pacl.data.masks import IGNORED, MaskFolder
from pacl.data.workers import usable
from pacl.errors import ArgumentError, UserError
from pacl.metrics.segmentation import areas_of_confusion, confusion_matrix
from pacl.models.model import PACL
from pacl.prompts import Label
from pacl.segmentation.encode import EncodedImage, encode_images
from pacl.segmentation.patch_maps import PatchMaps
from pacl.segmentation.query import EncodedQuery
from pacl.segmentation.segmenter import Segmenter

PRESENT = 0.01
"""Smallest share of an image's labelled pixels with which a class counts as present."""

BLOCK = 16
"""Images per block; after a run was killed, each process measures at most this many again."""


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table: a method with a list of class names.

    Attributes:
        method: its name; rows of the same name share their model, and so the patch vectors of an image.
        model: the model.
        protocol: how it is used.
        labels: the C classes.
        background: whether the first of them is "none of these".
    """

    method: str
    model: PACL
    protocol: Protocol
    labels: Sequence[Label]
    background: bool

    def prepare(self, settings: Mapping[str, Any]) -> Ready:
        """Check the settings and embed the class names.

        Args:
            settings: of `pacl.segmentation.settings.SegmenterSettings`, in place of the protocol's.

        Raises:
            UserError: the settings do not fit the model, or the background rule these names.
        """
        segmenter = Segmenter(self.model, replace(self.protocol.settings, **settings))
        named = self.labels[1:] if self.background else self.labels
        background = self.labels[0].prompts if self.background and self.protocol.background_text else ()
        if self.background and segmenter.background.kind == "none" and not background:
            raise ArgumentError("background", "none", "nothing can become class 0; give a rule such as threshold:0.1")
        try:
            query = segmenter.encode_query(named, background)
        except ArgumentError as error:
            if error.argument != "background" or "background" in self.protocol.changed:
                raise
            reason = f"brings background {error.value}: {error.reason}"  # nobody gave it
            raise ArgumentError("protocol", self.protocol.name, reason, "background") from None
        return Ready(self, segmenter, query)


class Found(NamedTuple):
    """What a row finds in an image.

    Attributes:
        cosines: of its patches with the N prompts that compete.
        classes: the class, 0..C-1, of each of these prompts.
        labels: of its pixels, int32 [H, W], classes 0..C-1.
    """

    cosines: PatchMaps
    classes: list[int]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Ready:
    """A row with its segmenter and its class names as text vectors."""

    row: Row
    segmenter: Segmenter
    query: EncodedQuery

    def classes_of(self, query: EncodedQuery) -> list[int]:
        """The class, 0..C-1, of each prompt of `query` or of a part of it."""
        return [i if self.row.background else i - 1 for i in query.query.ids]

    @property
    def without_patches(self) -> list[int]:
        """Labels that no patch can have: ignored ones, and a background that has no prompt."""
        return [IGNORED] if 0 in self.classes_of(self.query) else [IGNORED, 0]

    def segment(self, image: EncodedImage, target: np.ndarray | None = None) -> Found:
        """Label an encoded image, as `Segmenter.predict` does.

        Args:
            image: the image.
            target: true labels int32 [H, W]; under a protocol with ``present`` they decide which classes compete.
        """
        query = self.query
        if self.row.protocol.present and target is not None and (shown := present(target)):
            ids = zip(query.query.ids, self.classes_of(query), strict=True)
            query = query.only([i for i, c in ids if c in shown])
        if target is not None and not query.query.ids:  # only class 0 is shown, which has no prompt of its own
            return Found(image.patches.similarity(query.texts), [], np.zeros_like(target))
        found = self.segmenter.segment(image, query)
        return Found(found.cosines, self.classes_of(query), found.index.astype(np.int32) - (not self.row.background))


def present(target: np.ndarray) -> set[int]:
    """Classes that have at least `PRESENT` of the labelled pixels; ``target`` is int32 [H, W]."""
    classes, counts = np.unique(target[target >= 0], return_counts=True)
    return set(classes[counts >= PRESENT * counts.sum()].tolist())


@dataclass(frozen=True)
class Extras:
    """What is counted in addition to the areas."""

    boundary: bool = False
    patches: bool = False


class Bench:
    """A benchmark and the rows that are measured on it.

    Args:
        folder: images and masks; the rows' lists of names all have as many classes.
        rows: the rows. All settings that patch vectors depend on (size, windows, stride) must be the same.
        extras: what is counted in addition to the areas.
        settings: fields of `pacl.segmentation.settings.SegmenterSettings` that replace those of the protocols:
            window_batch, precision.

    Attributes:
        run: the run that its counts belong to (`eval.common.folders.run_digest`).
    """

    run: str = ""

    def __init__(self, folder: MaskFolder, rows: Sequence[Row], extras: Extras, **settings: Any) -> None:
        self.folder, self.extras = folder, extras
        self.classes = len(rows[0].labels)
        self.models: Mapping[str, PACL] = {row.method: row.model for row in rows}
        self.rows = [row.prepare(settings) for row in rows]
        self.settings, self.sam = self.rows[0].segmenter.settings, self.rows[0].segmenter.sam
        self.device = rows[0].model.device
        self.base = reset_peak_memory(self.device)

    def predict(
        self, images: Sequence[np.ndarray], targets: Sequence[np.ndarray] | None = None
    ) -> Iterator[list[Found]]:
        """For each image [H, W, 3], and each row: see `Ready.segment`. All rows share one pass of the image tower."""
        with torch.inference_mode():
            encoded = encode_images(list(self.models.values()), images, self.settings, self.sam)
        by_method = dict(zip(self.models, encoded, strict=True))
        for i in range(len(images)):
            target = None if targets is None else targets[i]
            yield [ready.segment(by_method[ready.row.method][i], target) for ready in self.rows]

    def count(self, index: Sequence[int], images: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Counts:
        """Label images and count; targets are int32 [H, W], classes 0..C-1 or ignored."""
        start = time.perf_counter()
        areas, boundary, patches, bound = [], [], [], []
        confusion = np.zeros((len(self.rows), self.classes, self.classes), np.int64)
        for target, found in zip(targets, self.predict(images, targets), strict=True):
            matrices = [confusion_matrix(each.labels, target, self.classes) for each in found]
            confusion += matrices
            areas.append([areas_of_confusion(matrix) for matrix in matrices])
            if self.extras.boundary:
                boundary.append([boundary_areas(each.labels, target, self.classes) for each in found])
            if self.extras.patches:
                maps = found[0].cosines  # all rows have the same windows
                true = majorities(maps, target)  # [T, h, w]
                patches.append(
                    [
                        patch_counts(each.cosines, each.classes, true, ready.without_patches)
                        for ready, each in zip(self.rows, found, strict=True)
                    ]
                )
                bound.append(upper_bound(target, maps.layout, maps.grid.patch, self.classes))
        peak = peak_memory(self.device)
        return Counts(
            run=np.array([self.run]),
            index=np.asarray(index, np.int64),
            areas=np.asarray(areas, np.int64),
            confusion=confusion,
            seconds=np.array([time.perf_counter() - start]),
            peak=np.array([peak]),
            beyond=np.array([max(0, peak - self.base)]),
            boundary=np.asarray(boundary, np.int64) if boundary else None,
            patches=np.asarray(patches, np.int64) if patches else None,
            bound=np.asarray(bound, np.int64) if bound else None,
        )


def measure(
    bench: Bench,
    parts: Path,
    *,
    rank: int = 0,
    ranks: int = 1,
    batch: int = 4,
    workers: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Measure the blocks of this process that are missing in the folder ``parts``.

    Args:
        bench: what is measured.
        parts: folder for the blocks' counts.
        rank, ranks: number of this process, from 0, and the number of processes.
        batch: images that are labelled at once.
        workers: processes that read images and masks.
        progress: called with the number of images that are done, including those of earlier runs.

    Raises:
        UserError: an image or mask cannot be read; what was measured before is kept.
    """
    total = len(bench.folder)
    blocks = range(-(-total // BLOCK))
    missing = [block for block in blocks[rank::ranks] if kept(bench, parts, block) is None]
    done = sum(min(BLOCK, total - BLOCK * block) for block in blocks[rank::ranks] if block not in missing)
    progress(done)
    batches = [
        list(range(start, min(start + batch, BLOCK * (block + 1), total)))
        for block in missing
        for start in range(BLOCK * block, min(BLOCK * (block + 1), total), batch)
    ]
    loader = DataLoader(Reading(bench.folder), batch_sampler=batches, collate_fn=list, num_workers=usable(workers))
    counts: list[Counts] = []
    waited = time.perf_counter()
    for indices, items in zip(batches, loader, strict=True):
        for item in items:
            if isinstance(item, UserError):
                raise item
        reading = time.perf_counter() - waited
        part = bench.count(indices, [image for image, _ in items], [mask for _, mask in items])
        counts.append(replace(part, seconds=part.seconds + reading))
        done += len(indices)
        if (indices[-1] + 1) % BLOCK == 0 or indices[-1] + 1 == total:
            Counts.join(counts).save(part_file(parts, indices[0] // BLOCK))
            counts = []
        progress(done)
        waited = time.perf_counter()


def kept(bench: Bench, parts: Path, block: int) -> Counts | None:
    """The counts of a block; None if they are missing, damaged or of another run."""
    part = Counts.load(part_file(parts, block))
    start, total = BLOCK * block, len(bench.folder)
    index = range(start, min(start + BLOCK, total))
    shape = (len(index), len(bench.rows), 3, bench.classes)
    right = part is not None and part.run.tolist() == [bench.run] and part.index.tolist() == list(index)
    return part if part is not None and right and part.areas.shape == shape else None


def is_measured(bench: Bench, parts: Path) -> bool:
    """Whether the counts of all images are there."""
    return all(kept(bench, parts, block) is not None for block in range(-(-len(bench.folder) // BLOCK)))


def gather(bench: Bench, parts: Path) -> Counts:
    """The counts of all images, measured by all processes.

    Raises:
        UserError: a block is missing: another process did not finish, or writes to another disk.
    """
    joined: list[Counts] = []
    for block in range(-(-len(bench.folder) // BLOCK)):
        part = kept(bench, parts, block)
        if part is None:
            file = part_file(parts, block)
            raise UserError(f"{file} is missing, damaged or of another run that writes there: give the command again")
        joined = [Counts.join([*joined, part])]  # one sum of confusion matrices at a time: they are large
    return joined[0]


def part_file(parts: Path, block: int) -> Path:
    """Where the counts of a block are kept."""
    return parts / f"{block:05}.npz"


class Reading(Dataset):
    """Images [H, W, 3] with their masks [H, W]. A `UserError` is returned: raised in a worker, it would be wrapped."""

    def __init__(self, folder: MaskFolder) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray] | UserError:
        try:
            item = self.folder[index]
            return item.image(), item.mask
        except UserError as error:
            return error
