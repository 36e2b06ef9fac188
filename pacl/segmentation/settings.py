"""Settings of the segmenter: the one place of their defaults. Flags, YAML and `Segmenter` take them from here.

This module does not import torch, so that a command can show its help at once.

To add a setting, add a field with a default and a description to `SegmenterSettings`, and a check to its
``__post_init__`` (the values of a `Literal` are checked already). The flags of ``pacl.segment`` and of
``eval.segmentation``, and the keys of protocol files follow. What the setting does belongs in `encode` if patch vectors
depend on it, else in `query`, `scoring` or `refine` of this package; in the second case also list it in
`pacl.segmentation.embedding.PREDICT_SETTINGS`. Where most publications have another value than the default, it is one
of `eval.segmentation.protocol.PUBLISHED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from pacl.errors import ArgumentError, names_meant
from pacl.json_values import use_python_numbers
from pacl.models.precision import Precision
from pacl.prompts import check_templates
from pacl.segmentation.background import parse_background

Interpolation = Literal["bicubic", "bilinear"]
Accumulate = Literal["pixel", "patch"]
RefineOn = Literal["probabilities", "cosines"]
Positions = Literal["centres", "published"]
Remainder = Literal["resize", "cut"]
Upsampling = Literal["once", "twice"]

DILATIONS: dict[RefineOn, tuple[int, ...]] = {"probabilities": (1, 2, 4, 8, 12, 24), "cosines": (8, 16)}
"""Default neighbour distances of refinement: those of its authors, and those of SCLIP and NACLIP."""


@names_meant
@dataclass(frozen=True)
class SegmenterSettings:
    """Settings of `pacl.segmentation.segmenter.Segmenter`; every one is also a flag of the command."""

    size: int | None = None
    """Short side, in pixels, to which an image is resized (up or down) for the tower. None: the model's own."""

    scales: tuple[float, ...] | None = None
    """Factors of that size, such as 1,2: the image is encoded once at each, and the patch vectors are averaged on the
    finest grid. Larger scales give sharper masks, the size that the model was trained at knows more names; the cost
    grows with their squares. None: the model's own."""

    interpolation: Interpolation = "bicubic"
    """How the image is resized: "bicubic" with antialiasing, as CLIP's own preprocessing does it, or "bilinear"
    without, as mmsegmentation and so most published figures do."""

    window: int | None = None
    """Side of the square windows that slide over the resized image, in its pixels. None: the whole image at once."""

    window_step: int | None = None
    """Pixels from one window to the next. None: half a window."""

    stride: int | None = None
    """Pixels from one patch to the next; less than the patch size gives finer maps at a cost that grows with the
    square (the paper uses a quarter of the patch). None: the patch size."""

    accumulate: Accumulate = "patch"
    """Where overlapping windows are averaged: "pixel", each upsampled first, as the published protocols do it, or
    "patch", on one global patch grid with one upsampling at the end: less memory and time, and the window's step and
    the resized image are rounded to the patch stride. Labels differ on 1 or 2 % of the pixels, on more where the step
    is no multiple of the stride."""

    positions: Positions = "centres"
    """Where a CLIP's position embeddings are sampled for a grid of n patches: at the patches' "centres", or as the
    "published" code of SCLIP, NACLIP, ClearCLIP and ProxyCLIP does it, as if there were n + 0.1 patches."""

    remainder: Remainder = "resize"
    """An image that goes through the tower as a whole and is no multiple of the patch: "resize" it to whole patches,
    or "cut" off the rest and stretch the scores over the whole image, as NACLIP does on VOC. "cut" needs accumulate
    pixel."""

    upsampling: Upsampling = "once"
    """How the scores of a single window reach the labels' size: "once", or "twice", to the resized image first, as
    NACLIP, ClearCLIP and ProxyCLIP do it. Several windows are always averaged at the resized image's size."""

    background: str = "auto"
    """Which pixels get id 0: auto, none, peak[:SHARE], contrast, prompt:TEXT[;TEXT...], threshold:P or entropy[:NATS].
    auto is none for several labels; for a single one it is peak (scores below this share of the image's highest) with
    a calibrated model, else contrast (words that the model carries compete)."""

    min_area: float = 0.0
    """Labels that win at most this share of all labelled pixels are dropped, and their pixels go to the next best
    (SCLIP's area threshold). 0 keeps all."""

    logit_scale: float | None = None
    """Factor on the cosines in the softmax over prompts. Without refine it never changes which label wins, only the
    probabilities, hence threshold, entropy and refinement. None: the model's own (100 for OpenAI's CLIP; the published
    protocols use 40 to 65)."""

    prior: float | None = None
    """Weight, from -1 to 1, of each label's compatibility with the whole image (phi), added to its cosines. Above 0,
    labels that are in the image get ahead of those that are not: for long lists of which few are in an image. Below 0,
    labels that are all in the image get even chances, as for a cat on a rug. 0 is off. None: the model's own."""

    templates: str = "none"
    """Sentence templates averaged around each prompt: none, photo, paper, imagenet, or a file with one a line."""

    refine: int | str = 0
    """Sharper edges: a number of iterations of edge-aware refinement against the image's colours (PAMR), 10 is usual;
    or sam:NAME, a SAM or SAM 2 that gets the regions as boxes and points, by the name of its folder or on the Hugging
    Face hub, such as sam:facebook/sam-vit-base. 0 is off."""

    refine_on: RefineOn = "probabilities"
    """What is refined: class "probabilities", at a long side of at most 512 pixels, or the "cosines" of all prompts at
    the image's own size, before the softmax, as SCLIP and NACLIP do it (4 bytes a pixel and prompt)."""

    dilations: tuple[int, ...] | None = None
    """Distances, in pixels, of the neighbours that refinement looks at. None: 1,2,4,8,12,24 for probabilities, 8,16
    for cosines."""

    window_batch: int = 8
    """Windows (or images of equal size) that go through the tower at once."""

    precision: Precision = "auto"
    """Arithmetic of the image tower; everything after it is float32. auto is bf16 where the hardware has it and the
    tower is faster with it, else fp32."""

    def __post_init__(self) -> None:
        use_python_numbers(self)
        self._check_types()
        parse_background(self.background)
        for name in ("size", "window", "window_step", "stride", "window_batch"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise ArgumentError(name, value, "must be at least 1")
        if self.scales is not None and not (self.scales and all(0 < scale < float("inf") for scale in self.scales)):
            raise ArgumentError("scales", listed(self.scales), "must be one or more factors above 0, such as 1,2")
        if self.scales is not None and len(self.scales) > 1 and self.accumulate != "patch":
            raise ArgumentError(
                "scales",
                listed(self.scales),
                "several are averaged on one patch grid; set accumulate to patch",
                "accumulate",
            )
        if self.remainder == "cut" and self.accumulate != "pixel":
            raise ArgumentError(
                "remainder", self.remainder, "patch rounds to whole patches; set accumulate to pixel", "accumulate"
            )
        if not 0 <= self.min_area < 1:
            raise ArgumentError("min_area", self.min_area, "must be a share, at least 0 and below 1")
        if self.refine_steps < 0 or (isinstance(self.refine, str) and not self.sam):
            shown = self.refine if self.refine_steps else repr(self.refine)
            reason = "must be 0 (off), a number of iterations such as 10, or sam:NAME with the folder or name of a SAM"
            if isinstance(self.refine, str) and self.refine.strip().isdecimal():
                reason = f"is a text; must be the number {int(self.refine)}"
            raise ArgumentError("refine", shown, reason)
        if self.sam and self.refine_on != "probabilities":
            reason = f"{self.sam} goes by the probabilities; leave it out, or set refine to a number"
            raise ArgumentError("refine_on", self.refine_on, reason, "refine")
        if self.dilations is not None and not _are_distances(self.dilations):
            reason = f"must be one or more distances of 1 to {FARTHEST} pixels"
            raise ArgumentError("dilations", listed(self.dilations), reason)
        if self.dilations is not None and not self.refine_steps:
            when = f"beside {self.refine}" if self.sam else "alone"
            reason = f"has no effect {when}; set refine to a number, such as 10"
            raise ArgumentError("dilations", listed(self.dilations), reason, "refine")
        if self.logit_scale is not None and not 1e-30 <= self.logit_scale <= 1e30:  # else scores leave float32's range
            raise ArgumentError("logit_scale", self.logit_scale, "must be from 1e-30 to 1e30, such as 100")
        if self.prior is not None and not abs(self.prior) <= 1:
            raise ArgumentError("prior", self.prior, "must be from -1 to 1, such as 0.5, 0 (off) or -0.3")
        object.__setattr__(self, "templates", str(self.templates))  # of a path, which JSON cannot hold
        check_templates(self.templates)
        for name, allowed in choices().items():
            if getattr(self, name) not in allowed:
                raise ArgumentError(name, getattr(self, name), f"must be {' or '.join(allowed)}")
        if self.window_step is not None and self.window is None:
            raise ArgumentError("window_step", self.window_step, "needs a window; the whole image has none")
        if self.window and self.window_step and self.window_step > self.window:
            raise ArgumentError(
                "window_step",
                self.window_step,
                f"leaves gaps between windows of {self.window}; use {self.window} or less",
            )

    @property
    def refine_steps(self) -> int:
        """Iterations of refinement against the image's colours; 0 is off."""
        return 0 if isinstance(self.refine, str) else self.refine

    @property
    def sam(self) -> str | None:
        """The name of the SAM that refines, or None."""
        return self.refine.removeprefix("sam:") if str(self.refine).startswith("sam:") else None  # type: ignore[union-attr]

    def _check_types(self) -> None:
        """Refuse texts for numbers, fractions of pixels and the like: they fail later, or change results."""
        for names, kind, wanted in _TYPES:
            for name in names:
                value = getattr(self, name)
                several = name in ("scales", "dilations")
                values = value if several and isinstance(value, (tuple, list)) else [value]
                if value is None and getattr(type(self), name) is None:
                    continue
                if name == "window" and isinstance(value, str) and "/" in value:
                    crop, step = value.split("/", 1)
                    raise ArgumentError(name, repr(value), f"must be {wanted}; write window={crop}, window_step={step}")
                wrong = [each for each in values if not isinstance(each, kind) or isinstance(each, bool)]
                if (several and values is not value) or wrong:
                    raise ArgumentError(name, repr(value), f"must be {_SEVERAL.get(name, wanted)}")


FARTHEST = 1000
"""The largest of `SegmenterSettings.dilations`, in pixels: images are padded by it on all sides."""


def _are_distances(dilations: tuple[int, ...]) -> bool:
    return bool(dilations) and all(1 <= each <= FARTHEST for each in dilations)


_SEVERAL = {"scales": "a tuple of numbers, such as (1, 2)", "dilations": "a tuple of whole numbers, such as (8, 16)"}
_TYPES: tuple[tuple[tuple[str, ...], type | tuple[type, ...], str], ...] = (
    (("size", "window", "window_step", "stride", "window_batch", "dilations"), int, "a whole number"),
    (("refine",), (int, str), "a whole number or sam:NAME"),
    (("scales", "min_area", "logit_scale", "prior"), (int, float), "a number"),
    (("background",), str, "a text"),
    (("templates",), (str, Path), "a name or a file"),
)


@cache
def choices() -> dict[str, tuple[str, ...]]:
    """The values that a setting may have, by the names of the settings of a `Literal` type."""
    hints = get_type_hints(SegmenterSettings)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def listed(values: tuple[float, ...]) -> str:
    """(1.0, 2.0) -> ``1,2``."""
    return ",".join(f"{value:g}" for value in values)
