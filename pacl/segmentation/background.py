"""Background rules: which pixels belong to none of the labels.

To add a rule, add its spelling to `SPELLINGS` and to the description of
`pacl.segmentation.settings.SegmenterSettings.background`; a row to `LIMITED` if it has a number, else its name to
`RULES` and `parse_background`; a row to the table of `Background`; and, if the class names of a benchmark are
enough for it, its name to `eval.segmentation.protocol.RULES`. What it does belongs in one of three places:

- `Background.rejects`, if it depends only on the class probabilities of a pixel;
- `pacl.segmentation.scoring.Offsets`, if it is one more score that competes with the labels;
- `pacl.segmentation.query.make_query`, if texts compete with the labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacl.errors import ArgumentError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

PAPER_ENTROPY = 1.5
"""Nats of class-softmax entropy above which PACL calls a pixel background (arXiv 2212.04994)."""

PEAK_SHARE = 0.6
"""Share of an image's highest score below which a pixel is background. Chosen on single prompts of Pascal VOC photos;
``python -m eval.segmentation.single_prompt voc21 --backgrounds peak:0.5 peak:0.6 peak:0.7`` compares others."""

LIMITED = {
    "peak": ("a share between 0 and 1", 1, PEAK_SHARE, PEAK_SHARE),
    "threshold": ("a probability between 0 and 1", 1, math.nan, 0.1),
    "entropy": ("a positive number of nats", math.inf, PAPER_ENTROPY, PAPER_ENTROPY),
}
"""The rules that have a number above 0, `Background.limit`: what it is, what it is below, its default (NaN: it must be
given), and one to try."""

RULES = ("auto", "none", "contrast", "prompt", *LIMITED)

SPELLINGS = "auto, none, peak[:SHARE], contrast, prompt:TEXT[;TEXT...], threshold:P (0 < P < 1) or entropy[:NATS]"


@dataclass(frozen=True)
class Background:
    """One way to say "none of these"; such pixels get id 0.

    kind        | a pixel is background where
    ----------- | ---------------------------
    `none`      | never: every pixel goes to its best label
    `prompt`    | one of the texts in `prompts` wins against the labels
    `contrast`  | one of the contrast prompts of the model wins against the labels
    `peak`      | the best score is below `limit` times the highest score in the image; everywhere, if the highest
                | score is below the model's `presence`, since then nothing that was asked for is there
    `threshold` | the best label's probability is below `limit`
    `entropy`   | the entropy of the class probabilities, in nats, is above `limit`
    `auto`      | for a single label (alone it would win everywhere) `peak` with a calibrated model, else `contrast`;
                | for several `none`
    """

    kind: str
    prompts: tuple[str, ...] = ()
    limit: float = 0.0

    def __str__(self) -> str:
        if self.kind == "prompt":
            return "prompt:" + ";".join(self.prompts)
        return f"{self.kind}:{repr(self.limit).removesuffix('.0')}" if self.kind in LIMITED else self.kind

    def settle(self, classes: int, calibrated: bool) -> Background:
        """The rule that `auto` stands for, of so many classes; other rules are themselves."""
        if self.kind != "auto":
            return self
        single = Background("peak", limit=PEAK_SHARE) if calibrated else Background("contrast")
        return single if classes < 2 else Background("none")

    def resolve(self, classes: int, prompts: int, calibrated: bool = False) -> Background:
        """The rule that `auto` stands for; other rules are checked and returned.

        Args:
            classes: number of classes that compete: the labels, and the background where it has prompts of its own.
            prompts: number of prompts of these classes together; more than classes where there are synonyms.
            calibrated: whether the model is calibrated, see `pacl.segmentation.calibration`.

        Raises:
            ArgumentError: ``background``: the rule makes no sense with this model or so many classes.
        """
        if self.kind == "auto":
            return self.settle(classes, calibrated)
        if self.kind == "peak" and not calibrated:
            advice = (
                "calibrate it with python -m pacl.calibrate MODEL PHOTOS, or use another rule, such as threshold:0.1"
            )
            raise ArgumentError("background", self, f"this model is not calibrated; {advice}")
        if self.kind == "entropy" and self.limit >= math.log(classes):
            raise ArgumentError(
                "background",
                self,
                f"can never hold, the entropy of {classes} class(es) is at most ln {classes} = "
                f"{math.log(classes):.2f} nats; use "
                + (f"a lower limit such as entropy:{0.7 * math.log(classes):.1f}, " if classes > 1 else "")
                + "contrast or prompt:TEXT",
            )
        if self.kind == "threshold" and self.limit <= 1 / prompts:
            raise ArgumentError(
                "background",
                self,
                f"can never hold, the best of {prompts} prompt(s) always has a probability of at "
                f"least 1/{prompts} = {1 / prompts:.2f}; use "
                + (f"a limit above that such as threshold:{(1 + 1 / prompts) / 2:.2f}, " if prompts > 1 else "")
                + "contrast or prompt:TEXT",
            )
        return self

    def rejects(self, probabilities: Tensor) -> Tensor | None:
        """Where no label is good enough.

        Args:
            probabilities: [C, ...] of the classes. With synonyms they need not sum to 1 (see
                `pacl.segmentation.scoring.class_probabilities`); the entropy is taken of their shares.

        Returns:
            bool [...], or None for the rules that the argmax alone decides.
        """
        if self.kind == "threshold":
            return probabilities.amax(0) < self.limit  # [...]
        if self.kind == "entropy":
            shares = probabilities / probabilities.sum(0)  # [C, ...]
            return -(shares * shares.clamp_min(1e-30).log()).sum(0) > self.limit  # [...]
        return None


def parse_background(rule: str) -> Background:
    """Parse the text of a rule: ``auto``, ``none``, ``peak``, ``peak:0.5``, ``contrast``,
    ``prompt:sky;a wall``, ``threshold:0.1``, ``entropy`` or ``entropy:1.2``.

    Raises:
        ArgumentError: ``background``: the rule is none of these, or its number makes no sense.
    """
    kind, colon, value = (part.strip() for part in rule.partition(":"))
    if kind in ("auto", "none", "contrast") and not colon:
        return Background(kind)
    if kind == "prompt":
        prompts = tuple(text for part in value.split(";") if (text := part.strip()))
        if not prompts:
            raise ArgumentError("background", rule, "names no text; try prompt:background")
        return Background(kind, prompts)
    if kind in LIMITED:
        number, below, default, example = LIMITED[kind]
        try:
            limit = float(value) if colon else default
        except ValueError:
            limit = math.nan
        if not 0 < limit < below:
            raise ArgumentError("background", rule, f"needs {number}; try {kind}:{example}")
        return Background(kind, limit=limit)
    meant = did_you_mean(kind, RULES)
    raise ArgumentError("background", rule or repr(rule), f"unknown rule; {meant and f'{meant} '}use {SPELLINGS}")
