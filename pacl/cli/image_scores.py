"""Score many image files in batches: the next are decoded while the tower works; and the flags of such scores."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pacl.cli.inputs import ImageFile
from pacl.cli.model import backbone_name
from pacl.errors import ArgumentError, UserError
from pacl.image_batches import each_or_error, read_batches
from pacl.models.precision import PRECISIONS
from pacl.prompts import get_templates

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pacl.classification.scorer import Scorer

SCORES = ("clip", "phi", "both")
DIGITS = 6
"""Decimals of scores in JSON and CSV."""

ADVICE = "--device cpu, --precision bf16, or a smaller model"


ScoreImages = Callable[[Sequence["np.ndarray"]], "Tensor"]

Outcome = tuple[ImageFile, "np.ndarray | UserError", "Tensor | UserError"]
"""An image file, its pixels and its scores, float32 [C]; or what is wrong with it."""


def add_score(group: argparse._ArgumentGroup, *, precision: str = "fp32") -> None:
    """``--score``, ``--weight``, ``--templates`` and ``--precision``; ``precision`` is its default, as help says it."""
    group.add_argument(
        "--score",
        choices=SCORES,
        help="clip: cosine of CLIP's pooled embedding and the text; phi: PACL's compatibility of the patches and the "
        "text; both: their weighted mean (default: clip where the model has a pooled embedding in the space of its "
        "texts, else phi)",
    )
    group.add_argument(
        "--weight", metavar="X", type=float, default=0.5, help="share of phi in both, from 0 to 1 (default: 0.5)"
    )
    group.add_argument(
        "--templates",
        metavar="NAME",
        default="none",
        help="sentence templates averaged around each text: none, photo, paper, imagenet, or a file with one a line "
        "(default: none)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        help=f"arithmetic of the image tower; auto is bf16 where that is faster (default: {precision})",
    )


def check_score(args: argparse.Namespace) -> None:
    """Refuse what `add_score`'s flags cannot mean, before a model is loaded.

    Raises:
        UserError: an invalid weight, unknown templates, or a score that the model cannot have by its name.
    """
    if not 0 <= args.weight <= 1:
        raise ArgumentError("weight", args.weight, "must be from 0 (clip alone) to 1 (phi alone)")
    if args.weight != 0.5 and args.score != "both":
        raise ArgumentError("weight", args.weight, "has no effect without --score both")
    if args.score in ("clip", "both") and re.match(r"timm:.*\+", name := backbone_name(args.model)):
        reason = f"the towers of {name} were trained apart and have no space of images and texts in common; use phi"
        raise ArgumentError("score", args.score, reason)
    if args.templates != "imagenet":  # these need open_clip, which takes seconds to import
        get_templates(args.templates)


def load_scorer(args: argparse.Namespace, *, draws: bool = False) -> Scorer:
    """The model of the flags, with the score that they name.

    Args:
        args: the flags.
        draws: whether the command also draws where texts are, for which patches are compared, whatever the score.

    Raises:
        UserError: what `pacl.cli.model.load` and `Scorer` raise, or a dense variant that would decide nothing.
    """
    from pacl.classification.scorer import Scorer
    from pacl.cli.model import load

    precision = args.precision or "fp32"
    scorer = Scorer(load(args), args.score, weight=args.weight, templates=args.templates, precision=precision)
    if scorer.score == "clip" and args.dense is not None and not draws:
        raise ArgumentError("dense", args.dense, "has no effect with --score clip; use phi or both")
    return scorer


def score_files(files: Sequence[ImageFile], score: ScoreImages) -> Iterator[Outcome]:
    """Score image files.

    Args:
        files: the images.
        score: images, RGB uint8 [H, W, 3] each -> scores [I, C].

    Yields:
        The outcome of each image, in the order of ``files``.
    """
    from pacl.classification.scorer import BATCH

    for batch in read_batches(files, BATCH):
        yield from each_or_error(batch, lambda _, images: list(score(images)), ADVICE)
