"""From a benchmark's pictures to counts: every method and list of names on the same patches, block by block.

A block is `BLOCK` pictures in a row. It is measured whole, by one process, and its counts are kept in a file; a run
that was killed goes on with the blocks that are missing, and processes share the blocks out. Blocks are the same
however many processes there are, so the result is, too.

Shapes: I pictures, R rows of the table, C classes, N prompts, D embedding, H W pixels, h w the patch grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eval.common.memory import peak_memory, start_peak
from eval.segmentation.counts import Counts
from eval.segmentation.patch_labels import majorities, patch_counts, upper_bound
from eval.segmentation.protocol import Protocol
from pacl.data.masks import MaskFolder
from pacl.errors import UserError
from pacl.metrics.areas import areas_of, confusion_of
from pacl.metrics.boundary import boundary_areas
from pacl.models.grid import PatchGrid
from pacl.models.model import PACL
from pacl.prompts import Label, get_templates
from pacl.segmentation.background import parse_background
from pacl.segmentation.patch_maps import EncodedImage, PatchMaps, as_tensor, encode_images, resize
from pacl.segmentation.refine import refine
from pacl.segmentation.segmenter import Query, patch_scores, segment

PRESENT = 0.01
"""Share of a picture's labelled pixels from which on a class counts as shown."""

BLOCK = 16
"""Pictures that are lost at most when a run is killed."""


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table: a method that answers to a list of names.

    Attributes:
        method: its name; rows of the same name share their model, and so a picture's patches.
        model: what it is.
        protocol: how it is used.
        labels: the C classes.
        background: whether the first of them is "none of these".
    """

    method: str
    model: PACL
    protocol: Protocol
    labels: Sequence[Label]
    background: bool

    def prepare(self) -> Ready:
        """Put the names into words and embed them.

        Raises:
            UserError: the background rule makes no sense with these names.
        """
        query = ask(self.labels, self.background, self.protocol, self.model.config.presence > 0)
        texts = self.model.encode_prompts(query.prompts, get_templates(self.protocol.templates)).float()
        return Ready(self, query, texts, self.protocol.logit_scale or float(self.model.logit_scale))


@dataclass(frozen=True, eq=False)
class Ready:
    """A row with its N prompts as unit vectors [N, D], and the factor on their cosines."""

    row: Row
    query: Query
    texts: Tensor
    scale: float

    @property
    def classes(self) -> list[int]:
        """The class, 0..C-1, of each prompt."""
        return [self.class_of(i) for i in self.query.ids]

    def class_of(self, i: int) -> int:
        """The class, 0..C-1, of an id of the query."""
        return i if self.row.background else i - 1

    def label(
        self, image: EncodedImage, picture: np.ndarray, cosines: PatchMaps, target: np.ndarray | None = None
    ) -> np.ndarray:
        """Label every pixel of a picture [H, W, 3] by its patches' cosines: int32 [H, W], classes 0..C-1.

        Under a protocol with ``present`` the true labels, int32 [H, W], say which classes compete.
        """
        protocol = self.row.protocol
        steps = protocol.refine if protocol.refine_on == "probabilities" else 0
        if protocol.refine and not steps:
            cosines = refined(cosines, picture, protocol)
        query, texts = self.query, self.texts
        shown = present(target) if protocol.present and target is not None else set()
        if kept := [n for n, i in enumerate(query.ids) if shown and (not i or self.class_of(i) in shown)]:
            query = replace(query, prompts=tuple(query.prompts[n] for n in kept), ids=tuple(query.ids[n] for n in kept))
            texts, cosines = texts[kept], replace(cosines, values=cosines.values[:, kept])
        scores = patch_scores(cosines, image.patches, texts, self.row.model, query.background, protocol.prior)
        logits = replace(scores, values=scores.values * self.scale)
        index, _, _ = segment(logits, query, steps, image.guide)
        return index.astype(np.int32) - (not self.row.background)


def ask(labels: Sequence[Label], background: bool, protocol: Protocol, calibrated: bool = False) -> Query:
    """What competes for the pixels of a benchmark.

    The names of class 0 come first, so that they win where the same name also stands for another class ("bed" in
    COCO-Object), as the first of equal maxima does in the published code.

    Raises:
        UserError: a limit that no pixel can ever cross.
    """
    named = list(labels[1:] if background else labels)
    behind = labels[0].prompts if background and protocol.background_text else ()
    prompts = (*behind, *(prompt for label in named for prompt in label.prompts))
    ids = (*[0] * len(behind), *(i for i, label in enumerate(named, start=1) for _ in label.prompts))
    rule = parse_background(protocol.background if background else "none")
    if background and rule.kind == "none" and not behind:
        raise UserError(f"protocol {protocol.name}: nothing can become class 0; give a --background_rule")
    try:
        rule = rule.resolve(len(named) + bool(behind), len(ids), calibrated)
    except UserError as error:
        reason = str(error).partition(": ")[2].partition("; use")[0]
        raise UserError(f"--background_rule {rule}: {reason}; choose another limit or rule") from None
    return Query(tuple(named), prompts, ids, rule, smallest=protocol.smallest)


def present(target: np.ndarray) -> set[int]:
    """Classes of true labels, int32 [H, W], that have `PRESENT` of the pixels that have any."""
    classes, counts = np.unique(target[target >= 0], return_counts=True)
    return set(classes[counts >= PRESENT * counts.sum()].tolist())


def refined(cosines: PatchMaps, picture: np.ndarray, protocol: Protocol) -> PatchMaps:
    """The cosines of all N prompts at the picture's own size, drawn to the edges of what the tower saw of it.

    As the published code does it, the guide is the resized picture brought back to its own size. Values [1, N, H, W],
    the one place where a map of every prompt exists at full size: 4 N H W bytes, and as much again while it is refined.
    """
    height, width = size = cosines.layout.size
    maps = torch.cat([band for _, _, band in cosines.bands()], dim=1)  # [N, H, W]
    seen = resize(as_tensor(picture), cosines.layout.resized, protocol.interpolation)  # [3, H', W']
    guide = resize(seen, size, "bilinear").to(maps.device)  # [3, H, W]
    layout = replace(cosines.layout.whole(), resized=size, window=size)
    maps = refine(maps, guide, protocol.refine, protocol.dilations)
    return PatchMaps(maps[None], PatchGrid(height, width, patch=1, stride=1), layout)


@dataclass(frozen=True)
class Extras:
    """What is counted beside the areas."""

    boundary: bool = False
    patches: bool = False


class Bench:
    """One benchmark, several rows.

    Args:
        folder: pictures and masks; the rows' lists of names all have as many classes.
        rows: what is measured. They agree in what decides a picture's patches (size, windows, stride).
        extras: what else is counted.
        settings: of `pacl.segmentation.settings.SegmenterSettings`: window_batch, precision.

    Attributes:
        run: the run that its counts are of (`eval.common.claim.digest`).
    """

    run: str = ""

    def __init__(self, folder: MaskFolder, rows: Sequence[Row], extras: Extras, **settings: Any) -> None:
        self.folder, self.extras = folder, extras
        self.classes = len(rows[0].labels)
        self.models: Mapping[str, PACL] = {row.method: row.model for row in rows}
        self.settings = rows[0].protocol.settings(**settings)
        with torch.inference_mode():
            self.rows = [row.prepare() for row in rows]
        self.device = rows[0].model.device
        patch, stride = rows[0].model.clip.patch, self.settings.stride
        if stride is not None and stride > patch:
            raise UserError(f"--stride {stride}: must be at most the model's patch size of {patch}")
        self.base = start_peak(self.device)

    def predict(
        self, pictures: Sequence[np.ndarray], targets: Sequence[np.ndarray] | None = None
    ) -> Iterator[list[tuple[PatchMaps, np.ndarray]]]:
        """For each picture [H, W, 3], and each row: its cosines, and its labels int32 [H, W]; see `Ready.label`."""
        with torch.inference_mode():
            encoded = encode_images(list(self.models.values()), pictures, self.settings)
            by_method = dict(zip(self.models, encoded, strict=True))
            for i, picture in enumerate(pictures):
                found = []
                for ready in self.rows:
                    image = by_method[ready.row.method][i]
                    cosines = image.patches.similarity(ready.texts)  # values [T, N, h, w]
                    target = None if targets is None else targets[i]
                    found.append((cosines, ready.label(image, picture, cosines, target)))
                yield found

    def count(self, index: Sequence[int], pictures: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Counts:
        """Label some pictures and count; targets are int32 [H, W], classes 0..C-1 or ignored."""
        start = time.perf_counter()
        areas, boundary, patches, bound = [], [], [], []
        confusion = np.zeros((len(self.rows), self.classes, self.classes), np.int64)
        for target, found in zip(targets, self.predict(pictures, targets), strict=True):
            each = [confusion_of(labels, target, self.classes) for _, labels in found]
            confusion += each
            areas.append([areas_of(matrix) for matrix in each])
            if self.extras.boundary:
                boundary.append([boundary_areas(labels, target, self.classes) for _, labels in found])
            if self.extras.patches:
                maps = found[0][0]  # all rows show the picture alike
                true = majorities(maps, target)  # [T, h, w]
                ready = zip(self.rows, found, strict=True)
                patches.append([patch_counts(cosines, row.classes, true) for row, (cosines, _) in ready])
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
    """Measure the blocks that are missing in the folder ``parts``, as far as they are this process's.

    Args:
        bench: what is measured.
        parts: folder for the blocks' counts.
        rank, ranks: this process, of how many.
        batch: pictures that are labelled at a time.
        workers: processes that read pictures and masks.
        progress: told how many pictures are done, those of earlier runs included.

    Raises:
        UserError: a picture or mask that cannot be read; what was measured before it is kept.
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
    loader = DataLoader(Reading(bench.folder), batch_sampler=batches, collate_fn=list, num_workers=workers)
    counts: list[Counts] = []
    waited = time.perf_counter()
    for indices, items in zip(batches, loader, strict=True):
        for item in items:
            if isinstance(item, UserError):
                raise item
        reading = time.perf_counter() - waited
        part = bench.count(indices, [picture for picture, _ in items], [mask for _, mask in items])
        counts.append(replace(part, seconds=part.seconds + reading))
        done += len(indices)
        if (indices[-1] + 1) % BLOCK == 0 or indices[-1] + 1 == total:
            Counts.join(counts).save(part_file(parts, indices[0] // BLOCK))
            counts = []
        progress(done)
        waited = time.perf_counter()


def kept(bench: Bench, parts: Path, block: int) -> Counts | None:
    """The counts of a block, where they are there, whole and of this run."""
    part = Counts.load(part_file(parts, block))
    start, total = BLOCK * block, len(bench.folder)
    index = range(start, min(start + BLOCK, total))
    shape = (len(index), len(bench.rows), 3, bench.classes)
    right = part is not None and part.run.tolist() == [bench.run] and part.index.tolist() == list(index)
    return part if part is not None and right and part.areas.shape == shape else None


def gather(bench: Bench, parts: Path) -> Counts:
    """The counts of all pictures, measured by whichever process.

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
    """Pictures [H, W, 3] with their masks [H, W]. A mistake is handed over, not raised: a worker would garble it."""

    def __init__(self, folder: MaskFolder) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray] | UserError:
        try:
            item = self.folder[index]
            return item.picture(), item.mask
        except UserError as error:
            return error
