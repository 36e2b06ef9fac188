"""Segment pictures by words: `Segmenter.set_image` once, `Segmenter.predict` often.

    picture [H,W,3] --resize, windows--> crops [T,3,h',w'] --PACL.encode_image--> patches [T,h,w,D]   (set_image)
    patches . texts [N,D] --> cosines [T,N,h,w] --upsample, softmax, argmax, in bands of rows--> index [H,W]   (predict)

The class is thin; the functions below it do the work and are what the benchmarks call. A full-size map of every
prompt never exists: 150 classes of a 24-megapixel photo would be 14 GB. Output rows are made in bands instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from pacl.background import Background, parse_background
from pacl.errors import UserError
from pacl.grid import PatchGrid, upsample
from pacl.prompts import Label, check_labels, competitors, get_templates, parse_prompt
from pacl.settings import SegmenterSettings
from pacl.windows import Layout, plan_layout

if TYPE_CHECKING:
    from pacl.model import PACL

__all__ = ["Segmentation", "Segmenter", "SegmenterSettings"]

BAND_BYTES = 32 * 2**20
"""Size of one float32 [N, rows, W] band; a handful of them are alive at a time."""

REFINE_SIDE = 512
"""Long side, in pixels, at which probabilities are refined; edges finer than that do not pay for the memory."""


# --- One picture, encoded ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatchMaps:
    """Values at the patches of one picture's windows, and where those patches lie.

    `values` is [T, K, h, w], T windows: unit patch vectors (K = D) or, after `similarity`, cosines (K = N prompts).
    """

    values: Tensor
    grid: PatchGrid
    layout: Layout

    def similarity(self, texts: Tensor) -> PatchMaps:
        """Cosines with the unit text vectors [N, D]: the same patches, with values [T, N, h, w]."""
        return replace(self, values=torch.einsum("tdhw,nd->tnhw", self.values, texts))

    def merged(self) -> PatchMaps:
        """All windows on one patch grid, averaged where they overlap: T becomes 1. Needs an aligned layout.

        Cosines are linear in the patch vectors, so averaging the vectors once (which makes them shorter than 1)
        averages the cosines with every text to come.
        """
        if len(self.values) == 1:
            return self
        grid = PatchGrid.cover(*self.layout.resized, self.grid.patch, self.grid.stride)
        total = self.values.new_zeros(self.values.shape[1], grid.h, grid.w)  # [K, H/stride, W/stride]
        count = self.values.new_zeros(grid.h, grid.w)
        for value, (y, x) in zip(self.values, self.layout.corners, strict=True):
            i, j = y // grid.stride, x // grid.stride
            total[:, i : i + self.grid.h, j : j + self.grid.w] += value
            count[i : i + self.grid.h, j : j + self.grid.w] += 1
        return PatchMaps((total / count)[None], grid, self.layout.whole())

    def bands(self, size: tuple[int, int] | None = None) -> Iterator[tuple[int, int, Tensor]]:
        """The maps upsampled to `size` (default: the picture's own), a band of rows at a time.

        Several windows are combined as the published protocols do it: each is upsampled to its pixels of the resized
        picture, they are averaged where they overlap, and the average is resized. All of that is linear and works on
        rows and columns apart, so it is two matrices, and nothing of the resized picture's size is ever made.

        Yields:
            start, stop, and the float32 values [K, stop - start, W] of those rows, within `BAND_BYTES` or one row.
        """
        height, width = size or self.layout.size
        down = self._weights(0, height)  # [H, ty * h]
        across = self._weights(1, width)  # [W, tx * w]
        maps = rearrange(self.values, "(ty tx) k h w -> k (ty h) (tx w)", tx=len(self.layout.xs))
        for start, stop in split_rows(height, 4 * len(maps) * width, BAND_BYTES):
            yield start, stop, (down[start:stop] @ maps) @ across.T

    def _weights(self, axis: int, pixels: int) -> Tensor:
        """What each output pixel along one axis takes from each patch of the windows along it: [pixels, t * n]."""
        n = (self.grid.h, self.grid.w)[axis]
        resized = self.layout.resized[axis]
        scale = (resized / pixels, 1.0)
        column = PatchGrid(n, 1, self.grid.patch, self.grid.stride)
        each = torch.eye(n, device=self.values.device)[:, :, None]  # [n, n, 1]: maps in which one patch is 1
        if len(self.values) == 1:
            return upsample(each, column, (pixels, 1), scale)[:, :, 0].T  # [pixels, n]
        window = self.layout.window[axis]
        starts = (self.layout.ys, self.layout.xs)[axis]
        in_window = upsample(each, column, (window, 1))[:, :, 0].T  # [window, n]
        total = each.new_zeros(resized, len(starts), n)
        count = each.new_zeros(resized, 1, 1)
        for t, start in enumerate(starts):
            total[start : start + window, t] = in_window
            count[start : start + window] += 1
        mean = rearrange(total / count, "y t n -> (t n) y 1")
        return upsample(mean, PatchGrid(resized, 1, patch=1, stride=1), (pixels, 1), scale)[:, :, 0].T


@dataclass(frozen=True)
class EncodedImage:
    """All that is kept of a picture between `set_image` and `predict`."""

    patches: PatchMaps
    """Patch vectors [T, D, h, w], float32."""
    guide: Tensor | None
    """float [3, h, w] in [0, 1], long side at most `REFINE_SIDE`: what refinement follows; None when it is off."""


def encode_images(
    model: PACL, images: Sequence[np.ndarray | Tensor], settings: SegmenterSettings
) -> list[EncodedImage]:
    """Pictures of any sizes -> patch vectors. Windows of equal size go through the tower together.

    Args:
        model: Its tower's device is used.
        images: Each uint8 [H, W, 3] as an array, or [3, H, W] as a tensor (uint8, or float in [0, 1]); RGB.
        settings: size, window, window_step, stride, accumulate, window_batch and precision are read.
    """
    patch = model.clip.patch
    stride = settings.stride or patch
    pictures = [as_tensor(image) for image in images]
    layouts = [
        plan_layout(
            (picture.shape[1], picture.shape[2]),
            settings.size or model.config.size,
            patch=patch,
            stride=stride,
            window=settings.window,
            step=settings.window_step,
            aligned=settings.accumulate == "patch",
        )
        for picture in pictures
    ]
    by_size: dict[tuple[int, int], list[int]] = {}
    for i, layout in enumerate(layouts):
        by_size.setdefault(layout.window, []).append(i)

    encoded: dict[int, EncodedImage] = {}
    for members in by_size.values():
        crops = (
            (i, resized[:, y : y + layouts[i].window[0], x : x + layouts[i].window[1]])
            for i in members
            for resized in [resize(pictures[i], layouts[i].resized)]
            for y, x in layouts[i].corners
        )
        waiting: list[Tensor] = []  # patch vectors of the windows of a picture that is not complete yet
        for owners, batch in _batches(crops, settings.window_batch):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                vectors, grid = model.encode_image(  # [B, P, D]
                    model.clip.normalize(batch.to(model.device)), stride=settings.stride
                )
            vectors = rearrange(vectors.float(), "b (h w) d -> b d h w", h=grid.h)
            for i, vector in zip(owners, vectors, strict=True):
                waiting.append(vector)
                if len(waiting) == len(layouts[i].corners):
                    maps = PatchMaps(torch.stack(waiting), grid, layouts[i])  # [T, D, h, w]
                    maps = maps.merged() if settings.accumulate == "patch" else maps
                    guide = shrink(pictures[i], REFINE_SIDE) if settings.refine else None
                    encoded[i] = EncodedImage(maps, guide)
                    waiting = []
    return [encoded[i] for i in range(len(images))]


def _batches(crops: Iterator[tuple[int, Tensor]], size: int) -> Iterator[tuple[list[int], Tensor]]:
    """Consecutive (owner, crop) pairs as (owners, [B, 3, h, w]), B at most `size`."""
    owners: list[int] = []
    batch: list[Tensor] = []
    for owner, crop in crops:
        owners.append(owner)
        batch.append(crop)
        if len(batch) == size:
            yield owners, torch.stack(batch)
            owners, batch = [], []
    if batch:
        yield owners, torch.stack(batch)


def as_tensor(image: np.ndarray | Tensor) -> Tensor:
    """uint8 [H, W, 3] array, or [3, H, W] tensor of uint8 or of float in [0, 1] -> the tensor, not copied."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image array is uint8 [H, W, 3] in RGB, not {image.dtype} {image.shape}")
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # [3, H, W]
    if image.ndim != 3 or image.shape[0] != 3 or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise ValueError(f"an image tensor is uint8 or float [3, H, W], not {image.dtype} {tuple(image.shape)}")
    if 0 in image.shape:
        raise ValueError(f"an image has no pixels: {tuple(image.shape)}")
    return image


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[3, H, W], uint8 or float in [0, 1] -> float32 [3, *size] in [0, 1]; bicubic, antialiased, centres aligned."""
    if image.dtype == torch.uint8 and image.device.type == "cpu":
        # Stays in 8 bits until it is small: a float copy of a 24-megapixel photo is 288 MB.
        image = _interpolate(image, size).float() / 255
    elif image.dtype == torch.uint8:
        image = _interpolate(image.float() / 255, size)
    else:
        image = _interpolate(image.float(), size)
    return image.clamp(0, 1)  # bicubic overshoots


def _interpolate(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return F.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)[0]


def shrink(image: Tensor, side: int) -> Tensor:
    """[3, H, W] -> float32 [3, h, w] in [0, 1], of the same proportions, with a long side of at most `side`."""
    height, width = image.shape[1:]
    factor = min(1.0, side / max(height, width))
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


# --- Words ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """What competes for the pixels: prompts, and the id each stands for."""

    labels: tuple[Label, ...]
    prompts: tuple[str, ...]
    """N texts: those of the labels in order, then those of the background."""
    ids: tuple[int, ...]
    """For each prompt i + 1 of its label, or 0 for the background; equal ids are neighbours."""
    background: Background

    @property
    def classes(self) -> tuple[int, ...]:
        """The ids that occur, each once, in the order of the prompts: K = C, or C + 1 with background prompts."""
        return tuple(dict.fromkeys(self.ids))


def make_query(labels: Sequence[Label], background: Background, contrast: Sequence[str]) -> Query:
    """Gather the prompts of the labels and of the background.

    Args:
        labels: As `pacl.prompts.check_labels` lets them pass.
        background: The rule; `auto` is settled here.
        contrast: What competes under the rule `contrast`; those that say what a prompt says are left out.

    Raises:
        UserError: The rule makes no sense with these labels.
    """
    prompts = [prompt for label in labels for prompt in label.prompts]
    ids = [i for i, label in enumerate(labels, start=1) for _ in label.prompts]
    background = background.resolve(len(labels), len(prompts))
    against: Sequence[str] = background.prompts
    if background.kind == "contrast":
        against = competitors(prompts, contrast)
        if not against:
            raise UserError("--background contrast: the model has no words that compete with these prompts; use none")
    if background.kind == "prompt":
        check_labels([*labels, Label(f"--background {background}", background.prompts)])
    return Query(tuple(labels), (*prompts, *against), (*ids, *[0] * len(against)), background)


# --- Scores -----------------------------------------------------------------------------------------------------


def class_probabilities(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Softmax over all N prompts, then each class takes the best of its own: [N, ...] -> [K, ...].

    This is the order of the SCLIP family's protocols: the max is taken AFTER the softmax, so synonyms do not add up
    and the probabilities of a pixel sum to 1 only when every class has one prompt.
    """
    probabilities = logits.softmax(0)  # [N, ...]
    counts = [ids.count(i) for i in dict.fromkeys(ids)]
    if len(counts) == len(ids):
        return probabilities
    return torch.stack([part.amax(0) for part in probabilities.split(counts)])  # [K, ...]


def decide(probabilities: Tensor, classes: Tensor, background: Background) -> tuple[Tensor, Tensor]:
    """Class probabilities [K, ...] and the ids [K] they stand for -> id of the winner [...], its probability [...]."""
    confidence, winner = probabilities.max(0)  # [...]
    index = classes[winner]
    rejected = background.rejects(probabilities)
    return (index if rejected is None else index.masked_fill(rejected, 0)), confidence


def split_rows(height: int, row_bytes: int, budget: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of rows that cover `height` in order, each within the budget or one row."""
    step = max(1, budget // row_bytes)
    return ((start, min(start + step, height)) for start in range(0, height, step))


def segment(
    logits: PatchMaps, query: Query, refine: int = 0, guide: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label every pixel of a picture.

    Args:
        logits: Scaled cosines of its patches with the N prompts, values [T, N, h, w].
        query: The N prompts.
        refine: Iterations of refinement.
        guide: float [3, h, w] in [0, 1], the picture for the refinement, small.

    Returns:
        index [H, W] (uint8, or uint16 above 255 labels); number of pixels of each id, int64 [C + 1]; sum of the
        winners' probabilities over the pixels of each id, float64 [C + 1].
    """
    device = logits.values.device
    classes = torch.tensor(query.classes, device=device)  # [K]
    total = len(query.labels) + 1
    index = np.empty(logits.layout.size, np.uint8 if total <= 256 else np.uint16)  # [H, W]
    pixels = torch.zeros(total, dtype=torch.int64, device=device)
    scores = torch.zeros(total, dtype=torch.float64, device=device)
    maps = logits
    if refine:
        assert guide is not None, "the picture was encoded without refinement"
        maps = refined_probabilities(logits, query, refine, guide)  # [1, K, h, w]
    for start, stop, band in maps.bands():  # [N, rows, W]
        probabilities = band if refine else class_probabilities(band, query.ids)  # [K, rows, W]
        labels, confidence = decide(probabilities, classes, query.background)  # [rows, W]
        index[start:stop] = labels.cpu().numpy()
        pixels += torch.bincount(labels.flatten(), minlength=total)
        scores += torch.bincount(labels.flatten(), confidence.flatten().double(), minlength=total)
    return index, pixels.cpu().numpy(), scores.cpu().numpy()


def refined_probabilities(logits: PatchMaps, query: Query, iterations: int, guide: Tensor) -> PatchMaps:
    """Class probabilities at the size of `guide` [3, h, w], drawn to its edges; values [1, K, h, w]."""
    from pacl.refine import refine

    h, w = guide.shape[1:]
    rows = [class_probabilities(band, query.ids) for _, _, band in logits.bands((h, w))]  # [K, rows, w] each
    probabilities = refine(torch.cat(rows, dim=1), guide.to(rows[0].device), iterations)  # [K, h, w]
    layout = Layout(logits.layout.size, (h, w), (h, w), (0,), (0,))
    return PatchMaps(probabilities[None], PatchGrid(h, w, patch=1, stride=1), layout)


# --- The class --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels of one picture."""

    labels: list[str]
    """Names, C of them; `labels[i]` is painted as i + 1."""
    prompts: list[tuple[str, ...]]
    """The prompts of each label."""
    index: np.ndarray
    """[H, W], uint8 (uint16 above 255 labels): 0 is background or none, i + 1 is `labels[i]`."""
    shares: list[float]
    """Part of the picture's pixels that each label won, in [0, 1]; what they lack to 1 is background."""
    scores: list[float]
    """Mean probability of each label over the pixels it won, in [0, 1]; 0 where it won none."""
    background: str
    """The rule that was used; `auto` is settled."""
    settings: SegmenterSettings
    _cosines: PatchMaps = field(repr=False, compare=False)
    _ids: tuple[int, ...] = field(repr=False, compare=False)

    def mask(self, label: str | int) -> np.ndarray:
        """bool [H, W]: the pixels of a label, given by name or position."""
        return self.index == self._position(label) + 1

    def score_map(self, label: str | int) -> np.ndarray:
        """float32 [H, W] in [-1, 1]: cosine of a label, the best of its prompts, upsampled when asked for."""
        wanted = [n for n, i in enumerate(self._ids) if i == self._position(label) + 1]
        maps = replace(self._cosines, values=self._cosines.values[:, wanted])  # [T, N of the label, h, w]
        rows = [band.amax(0).cpu() for _, _, band in maps.bands()]  # [rows, W] each
        return torch.cat(rows).numpy()

    def _position(self, label: str | int) -> int:
        if isinstance(label, str):
            if label not in self.labels:
                raise KeyError(f"no label {label!r}; there are {', '.join(self.labels)}")
            return self.labels.index(label)
        return range(len(self.labels))[label]


class Segmenter:
    """Segments pictures with a `PACL` model. Encoding a picture is the expensive half and happens once a picture.

    Example:
        >>> segmenter = Segmenter(load_model())
        >>> segmenter.set_image(open_image("dog.jpg"))
        >>> segmenter.predict(["a dog", "grass"]).mask("a dog")  # bool [H, W]
        >>> segmenter.predict(["a cat"]).shares                   # the same picture, other words: cheap
    """

    def __init__(self, model: PACL, settings: SegmenterSettings | None = None) -> None:
        self.model = model
        self.settings = settings or SegmenterSettings()
        self.background = parse_background(self.settings.background)
        self.templates = get_templates(self.settings.templates)
        self.image: EncodedImage | None = None
        patch = model.clip.patch
        for flag in ("size", "window"):
            value = getattr(self.settings, flag)
            if value is not None and value < patch:
                raise UserError(f"--{flag} {value}: must be at least the model's patch size of {patch} pixels")
        if self.settings.stride is not None and self.settings.stride > patch:
            raise UserError(f"--stride {self.settings.stride}: must be at most the model's patch size of {patch}")

    @torch.inference_mode()
    def set_image(self, image: np.ndarray | Tensor) -> None:
        """Encode one picture, uint8 [H, W, 3] (or a [3, H, W] tensor), for the calls of `predict` that follow."""
        self.image = encode_images(self.model, [image], self.settings)[0]

    def predict(self, labels: Sequence[str | Label]) -> Segmentation:
        """Segment the picture that was set. All labels compete for every pixel.

        Args:
            labels: Texts (`"a dog"`, `"a dog=dog"`, `"cat;kitten=cat"`) or `Label`s. One alone works: under the
                default background rule it competes with words that the model carries.
        """
        if self.image is None:
            raise RuntimeError("call set_image before predict")
        return self._segment(self.image, *self._ask(labels))

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray | Tensor], labels: Sequence[str | Label]) -> list[Segmentation]:
        """Segment several pictures, of equal or different sizes, with the same labels; see `set_image`, `predict`."""
        query, texts = self._ask(labels)
        return [self._segment(image, query, texts) for image in encode_images(self.model, images, self.settings)]

    @torch.no_grad()  # not inference_mode: the model caches these vectors, and training may read them again
    def _ask(self, labels: Sequence[str | Label]) -> tuple[Query, Tensor]:
        """Labels -> what competes, and the unit vectors [N, D] of its prompts."""
        labels = [labels] if isinstance(labels, str) else labels
        clip = self.model.clip
        checked = check_labels(
            [label if isinstance(label, Label) else parse_prompt(label) for label in labels],
            count_tokens=clip.count_tokens,
            context_length=clip.context_length,
            templates=self.templates,
        )
        query = make_query(checked, self.background, self.model.config.contrast)
        return query, self.model.encode_prompts(query.prompts, self.templates).float()

    @torch.inference_mode()
    def _segment(self, image: EncodedImage, query: Query, texts: Tensor) -> Segmentation:
        cosines = image.patches.similarity(texts)  # values [T, N, h, w]
        scale = self.settings.logit_scale or float(self.model.logit_scale)
        logits = replace(cosines, values=cosines.values * scale)  # upsampling is linear: scaled where it is small
        index, pixels, scores = segment(logits, query, self.settings.refine, image.guide)
        return Segmentation(
            labels=[label.name for label in query.labels],
            prompts=[label.prompts for label in query.labels],
            index=index,
            shares=(pixels[1:] / index.size).tolist(),
            scores=(scores[1:] / np.maximum(pixels[1:], 1)).tolist(),
            background=str(query.background),
            settings=self.settings,
            _cosines=cosines,
            _ids=query.ids,
        )
