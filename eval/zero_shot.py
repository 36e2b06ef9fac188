"""Pictures against the names of their classes: scores in three ways from one pass of the image tower.

Shapes: B I images, C classes, N prompts (one or more a class), P patches, D embedding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.accuracy import outcomes
from eval.image_features import batches, class_texts, embed
from eval.image_result import image_result
from eval.image_sets import ImageSet
from eval.memory import peak_memory
from eval.result import Result
from pacl.errors import UserError
from pacl.model import PACL
from pacl.prompts import fill, unknown_words

METHODS = ("pooled", "phi", "mean")


def zero_shot_results(
    model: PACL, images: ImageSet, templates: Sequence[str], args: argparse.Namespace
) -> list[Result]:
    """A result for each of `METHODS`."""
    start = time.perf_counter()
    counts = zero_shot(model, images, templates, args.batch, args.workers, args.precision)
    seconds = time.perf_counter() - start
    common = {
        "name": "zero-shot",
        "names": images.names,
        "templates": args.templates,
        "template_count": len(templates),
    }
    speed = {
        "images_per_second": len(images) / seconds,  # the embedding of the names included
        "seconds": seconds,
        "peak_memory_mb": peak_memory(model.device) / 2**20,
    }
    scores = {
        "pooled": "cosine of CLIP's pooled embedding with the class",
        "phi": f"phi of the {model.config.dense} patches with the class, temperature {float(model.temperature):g}"
        + ("" if model.config.cosine else ", the raw product, no cosine"),
    }
    scores["mean"] = f"({scores['pooled']} + {scores['phi']}) / 2"
    return [
        image_result(model, images, method, counts[method], {**common, "score": scores[method]}, args, speed)
        for method in METHODS
    ]


def zero_shot(
    model: PACL, images: ImageSet, templates: Sequence[str], batch: int, workers: int, precision: str = "fp32"
) -> dict[str, np.ndarray]:
    """`eval.accuracy.outcomes`, int64 [C, 3], of each of `METHODS`; memory does not grow with the pictures.

    Raises:
        UserError: A picture cannot be read, or the model's scores are no numbers.
    """
    prompts = [prompt for synonyms in images.prompts for prompt in synonyms]
    owners = torch.tensor([i for i, synonyms in enumerate(images.prompts) for _ in synonyms], device=model.device)
    with torch.inference_mode():
        for_pooled = class_texts(model.clip.encode_text, prompts, templates)  # [N, D]
        for_phi = class_texts(model.encode_text, prompts, templates)

    def by_class(scores: Tensor) -> Tensor:
        """Of a class's synonyms the best: [B, N] -> [B, C]."""
        if scores.shape[1] == len(images.keys):
            return scores
        best = scores.new_full((len(scores), len(images.keys)), -torch.inf)
        return best.scatter_reduce(1, owners.expand(len(scores), -1), scores, "amax")

    counts: dict[str, Any] = dict.fromkeys(METHODS, 0)
    title = f"{images.benchmark.name} {images.split}"
    for squares, labels in batches(images, model, batch, workers, title):
        with torch.inference_mode():
            pooled, patches = embed(model, squares, precision)  # [B, D], [B, P, D]
            scores = {"pooled": pooled @ for_pooled.T, "phi": model.phi(patches, for_phi)}  # [B, N]
            scores["mean"] = (scores["pooled"] + scores["phi"]) / 2
            for method in METHODS:
                if not scores[method].isfinite().all():
                    raise UserError(f"{images.benchmark.name}: scores are no numbers; the model's weights are damaged")
                counts[method] = counts[method] + outcomes(by_class(scores[method]), labels)
    return counts


def warn_of_names(model: PACL, images: ImageSet, templates: Sequence[str]) -> None:
    """Say how much of the names the model cannot read: words it was never taught, texts longer than it takes."""
    clip, prompts = model.clip, [prompt for synonyms in images.prompts for prompt in synonyms]
    if unknown := unknown_words(prompts, clip.vocabulary):
        shown = ", ".join(map(repr, unknown[:5]))
        more = ", ..." if len(unknown) > 5 else ""
        _warn(
            f"{images.benchmark.name}: this model was never taught words of the names ({len(unknown)}: {shown}{more})"
        )
    longest = max(templates, key=lambda template: clip.count_tokens(fill(template, "x")))
    cut = sum(clip.count_tokens(fill(longest, prompt)) > clip.context_length for prompt in prompts)
    if cut:
        _warn(
            f"{images.benchmark.name}: {cut} of {len(prompts)} names do not fit the longest template into "
            f"{clip.context_length} tokens and are cut"
        )


def _warn(message: str) -> None:
    print(f"pacl eval.classification: warning: {message}", file=sys.stderr)
