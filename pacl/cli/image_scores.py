"""Score many image files in batches: the next are decoded while the tower works; and the flags of such scores."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pacl.cli.batches import Batch
from pacl.cli.inputs import ImageFile
from pacl.cli.messages import is_out_of_memory
from pacl.errors import ArgumentError, UserError
from pacl.image_batches import read_batches
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


def add_score(group: argparse._ArgumentGroup) -> None:
    """``--score``, ``--weight``, ``--templates`` and ``--precision``."""
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
        default="fp32",
        help="arithmetic of the image tower; auto is bf16 where that is faster (default: fp32)",
    )


def check_score(args: argparse.Namespace) -> None:
    """Refuse what `add_score`'s flags cannot mean, before a model is loaded.

    Raises:
        UserError: a weight or templates that there are not.
    """
    if not 0 <= args.weight <= 1:
        raise ArgumentError("weight", args.weight, "must be from 0 (clip alone) to 1 (phi alone)")
    if args.weight != 0.5 and args.score != "both":
        raise ArgumentError("weight", args.weight, "has no effect without --score both")
    if args.templates != "imagenet":  # these need open_clip, which takes seconds to import
        get_templates(args.templates)


def load_scorer(args: argparse.Namespace) -> Scorer:
    """The model of the flags, with the score that they name."""
    from pacl.classification.scorer import Scorer
    from pacl.cli.model import load

    return Scorer(load(args), args.score, weight=args.weight, templates=args.templates, precision=args.precision)


def score_files(files: Sequence[ImageFile], score: ScoreImages) -> Iterator[Outcome]:
    """Score image files.

    Args:
        files: the images.
        score: images, RGB uint8 [H, W, 3] each -> scores [I, C].

    Yields:
        The outcome of each image, in the order of ``files``.
    """
    from pacl.classification.scorer import BATCH

    with ThreadPoolExecutor(1) as reader:
        try:
            for batch in read_batches(files, reader, BATCH):
                yield from score_batch(batch, score)
        finally:  # nobody waits for what is left when the caller stops
            reader.shutdown(wait=False, cancel_futures=True)


def score_batch(batch: Batch[ImageFile], score: ScoreImages) -> list[Outcome]:
    """Score the readable images together, or one by one where memory does not suffice for all."""
    images = [image for _, image in batch if not isinstance(image, UserError)]
    found: list[Tensor | UserError] = []
    try:
        found += score(images)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) > 1:
            return [outcome for each in batch for outcome in score_batch([each], score)]
        found.append(UserError(f"{batch[0][0].path}: out of memory; try {ADVICE}"))
    results = iter(found)
    return [(file, image, image if isinstance(image, UserError) else next(results)) for file, image in batch]
