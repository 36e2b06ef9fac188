"""How to segment: the one place of these defaults. Flags, YAML and `Segmenter` all take them from here.

Apart from `pacl.segmentation.segmenter` so that a command can show its help without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pacl.errors import UserError
from pacl.models.precision import PRECISIONS, Precision
from pacl.segmentation.background import parse_background


@dataclass(frozen=True)
class SegmenterSettings:
    """Settings of `pacl.segmentation.segmenter.Segmenter`; every one is also a flag of the command."""

    size: int | None = None
    """Short side, in pixels, that a picture is resized to (up or down) for the tower. None: the model's own."""

    scales: tuple[float, ...] | None = None
    """Factors of that size, such as 1,2: the picture is encoded once at each, and the patch vectors are averaged on the
    finest grid. Larger scales give sharper masks, the size that the model was trained at knows more names; the cost
    grows with their squares. None: the model's own."""

    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How it is resized: "bicubic" with antialiasing, as CLIP's own preprocessing does it, or "bilinear" without, as
    mmsegmentation and so most published figures do."""

    window: int | None = None
    """Side of the square windows that slide over the resized picture, in its pixels. None: all of it at once."""

    window_step: int | None = None
    """Pixels from one window to the next. None: half a window."""

    stride: int | None = None
    """Pixels from one patch to the next; less than the patch size gives finer maps at a cost that grows with the
    square (the paper uses a quarter of the patch). None: the patch size."""

    accumulate: Literal["pixel", "patch"] = "patch"
    """Where overlapping windows are averaged: "pixel", each upsampled first, as the published protocols do it, or
    "patch", on one global patch grid with one upsampling at the end: less memory and time, and the window's step and
    the resized picture are rounded to the patch stride. Labels differ on 1 % of the pixels or so, mIoU hardly."""

    background: str = "auto"
    """What gets id 0: auto, none, peak[:SHARE], contrast, prompt:TEXT[;TEXT...], threshold:P or entropy[:NATS]. auto is
    none for several labels; for a single one it is peak (scores below this share of the picture's highest) with a
    calibrated model, else contrast (words that the model carries compete)."""

    logit_scale: float | None = None
    """Factor on the cosines in the softmax over prompts. Without synonyms it never changes which label wins, only the
    probabilities, hence threshold, entropy and refinement. None: the model's own (100 for OpenAI's CLIP; the published
    protocols use 40 to 65)."""

    prior: float | None = None
    """How much each label's compatibility with the whole image (phi, in [-1, 1]) is added to its cosines. Above 0,
    labels that are in the image get ahead of those that are not: for long lists of which few are in an image. Below 0,
    labels that are all in the image get even chances, such as snow beside a skier. 0 is off. None: the model's own."""

    templates: str = "none"
    """Sentence templates averaged around each prompt: none, photo, paper, imagenet, or a file with one a line."""

    refine: int = 0
    """Iterations of edge-aware refinement against the picture's colours; 0: off, 10 is usual."""

    window_batch: int = 8
    """Windows (or pictures of equal size) that go through the tower at once."""

    precision: Precision = "auto"
    """Arithmetic of the image tower; everything after it is float32. auto is bf16 where the hardware has it and the
    tower is faster with it, else fp32."""

    def __post_init__(self) -> None:
        parse_background(self.background)
        for flag in ("size", "window", "window_step", "stride", "window_batch"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise UserError(f"--{flag} {value}: must be at least 1")
        if self.scales is not None and not (self.scales and all(0 < scale < float("inf") for scale in self.scales)):
            raise UserError(f"--scales {self.scales}: must be one or more factors above 0, such as 1,2")
        if self.scales is not None and len(self.scales) > 1 and self.accumulate != "patch":
            raise UserError("--scales: several are averaged on one patch grid; use --accumulate patch")
        if self.refine < 0:
            raise UserError(f"--refine {self.refine}: must be 0 (off) or a number of iterations")
        if self.logit_scale is not None and not 0 < self.logit_scale < float("inf"):
            raise UserError(f"--logit_scale {self.logit_scale}: must be positive and finite")
        if self.prior is not None and not abs(self.prior) < float("inf"):
            raise UserError(f"--prior {self.prior}: must be a finite number, such as 0.5, 0 (off) or -0.3")
        for flag, allowed in (
            ("accumulate", ("pixel", "patch")),
            ("precision", PRECISIONS),
            ("interpolation", ("bicubic", "bilinear")),
        ):
            if getattr(self, flag) not in allowed:
                raise UserError(f"--{flag} {getattr(self, flag)}: must be {' or '.join(allowed)}")
        if self.window_step is not None and self.window is None:
            raise UserError(f"--window_step {self.window_step}: needs --window, the whole picture has no windows")
        if self.window and self.window_step and self.window_step > self.window:
            raise UserError(
                f"--window_step {self.window_step}: leaves gaps between windows of {self.window}; "
                f"use {self.window} or less"
            )
