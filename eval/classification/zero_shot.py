"""Pictures against the names of their classes: scores in three ways from one pass of the image tower.

Shapes: B I images, C classes, N prompts (one or more a class), P patches, D embedding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.classification.features import batches, class_texts, embed
from eval.classification.image_sets import ImageSet
from eval.classification.results import DIGITS, planned_result, with_figures
from eval.common.memory import peak_memory
from eval.common.result import Result
from eval.common.command import warn, warn_of_unknown_words
from pacl.errors import UserError
from pacl.metrics.accuracy import count_ranks
from pacl.models.model import PACL
from pacl.prompts import fill

VERB = "eval.classification"
METHODS = ("pooled", "phi", "mean")


def planned_zero_shot(
    model: PACL, images: ImageSet, templates: Sequence[str], args: argparse.Namespace
) -> list[Result]:
    """A result for each of `METHODS`, without figures."""
    texts = hashlib.sha256(json.dumps([templates, images.prompts]).encode("ascii")).hexdigest()
    common = {
        "name": "zero-shot",
        "names": images.names,
        "templates": args.templates,
        "template_count": len(templates),
        "texts_sha256": texts[:DIGITS],
    }
    scores = {
        "pooled": "cosine of CLIP's pooled embedding with the class",
        "phi": f"phi of the {model.config.dense} patches with the class, temperature {float(model.temperature):g}"
        + ("" if model.config.cosine else ", the raw product, no cosine"),
    }
    scores["mean"] = f"({scores['pooled']} + {scores['phi']}) / 2"
    return [planned_result(model, images, method, {**common, "score": scores[method]}, args) for method in METHODS]


def zero_shot_results(
    model: PACL, images: ImageSet, templates: Sequence[str], planned: Sequence[Result], args: argparse.Namespace
) -> list[Result]:
    """What `planned_zero_shot` planned, with its figures."""
    start = time.perf_counter()
    counts = zero_shot(model, images, templates, args.batch, args.workers, args.precision)
    seconds = time.perf_counter() - start
    speed = {
        "images_per_second": len(images) / seconds,  # the embedding of the names included
        "seconds": seconds,
        "peak_memory_mb": peak_memory(model.device) / 2**20,
    }
    return [with_figures(result, images, counts[result.method], speed) for result in planned]


def zero_shot(
    model: PACL, images: ImageSet, templates: Sequence[str], batch: int, workers: int, precision: str = "fp32"
) -> dict[str, np.ndarray]:
    """`pacl.metrics.accuracy.count_ranks`, int64 [C, 3], of each of `METHODS`; memory does not grow with the pictures.

    Raises:
        UserError: A picture cannot be read, or the model's scores are no numbers.
    """
    prompts = [prompt for synonyms in images.prompts for prompt in synonyms]
    owners = torch.tensor([i for i, synonyms in enumerate(images.prompts) for _ in synonyms], device=model.device)
    with torch.inference_mode():
        for_pooled, for_phi = class_texts(model, prompts, templates, f" for {images.benchmark.name}")  # [N, D]

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
                counts[method] = counts[method] + count_ranks(by_class(scores[method]), labels)
    return counts


def warn_of_names(model: PACL, images: ImageSet, templates: Sequence[str]) -> None:
    """Say how much of the names the model cannot read: words it was never taught, texts longer than it takes."""
    clip, prompts = model.clip, [prompt for synonyms in images.prompts for prompt in synonyms]
    name = images.benchmark.name
    warn_of_unknown_words(VERB, clip, prompts, f"names of {name}")
    longest = max(templates, key=lambda template: clip.count_tokens(fill(template, "x")))
    cut = sum(clip.count_tokens(fill(longest, prompt)) > clip.context_length for prompt in prompts)
    if cut:
        tokens = f"{clip.context_length} tokens"
        warn(VERB, f"{cut} of the {len(prompts)} names of {name} do not fit the longest template into {tokens}: cut")
