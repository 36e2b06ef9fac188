"""Zero-shot classification with three scores, all computed from one pass of the image tower.

Shapes: B images, C classes, N prompts (one or more per class), P patches, D embedding.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eval.classification.features import Loading, class_embeddings, load_batches
from eval.classification.image_sets import ImageSet
from eval.classification.results import DIGITS, Setup
from eval.common.files import file_digests
from eval.common.result import Result
from pacl.classification.features import embed
from pacl.classification.scorer import EncodedLabels, best_of_labels
from pacl.errors import UserError
from pacl.metrics.accuracy import count_ranks
from pacl.models.model import PACL

METHODS = ("pooled", "phi", "mean")


def planned_zero_shot(setup: Setup, images: ImageSet, templates: Sequence[str], name: str) -> list[Result]:
    """The results of `zero_shot_results` before they are measured, one for each of `METHODS`: settings without scores.

    Args:
        setup: model and settings.
        images: the images to classify.
        templates: sentence templates of the prompts.
        name: the name of the templates as the user gave it.
    """
    model = setup.model
    texts = hashlib.sha256(json.dumps([templates, images.prompts]).encode("ascii")).hexdigest()
    common = {
        "name": "zero-shot",
        "names": images.names,
        "templates": name,
        "template_count": len(templates),
        "texts_sha256": texts[:DIGITS],
        **file_digests(names=images.names, templates=name),
    }
    scores = {
        "pooled": "cosine of CLIP's pooled embedding with the class",
        "phi": f"phi of the {model.config.dense} patches with the class, temperature {float(model.temperature):g}"
        + ("" if model.config.cosine else ", the raw product, no cosine"),
    }
    scores["mean"] = f"({scores['pooled']} + {scores['phi']}) / 2"
    return [setup.planned(images, method, {**common, "score": scores[method]}) for method in METHODS]


def zero_shot_results(
    setup: Setup, images: ImageSet, templates: Sequence[str], planned: Sequence[Result]
) -> list[Result]:
    """Classify all images; returns the results of `planned_zero_shot` with their scores."""
    start = time.perf_counter()
    counts = zero_shot(setup.model, images, templates, setup.loading)
    seconds = time.perf_counter() - start
    speed = {"images_per_second": len(images) / seconds, "seconds": seconds}  # includes encoding the class names
    return [setup.measured(result, images, counts[result.method], speed) for result in planned]


def zero_shot(model: PACL, images: ImageSet, templates: Sequence[str], loading: Loading) -> dict[str, np.ndarray]:
    """Classify all images with each of `METHODS`; only one batch of images is in memory at a time.

    Args:
        model: the model.
        images: the images and their classes.
        templates: sentence templates of the prompts.
        loading: how images are read and encoded.

    Returns:
        Method -> `pacl.metrics.accuracy.count_ranks`, int64 [C, 3].

    Raises:
        UserError: an image cannot be read, or the model's scores are not finite.
    """
    prompts = [prompt for synonyms in images.prompts for prompt in synonyms]
    owners = torch.tensor([i for i, synonyms in enumerate(images.prompts) for _ in synonyms], device=model.device)
    with torch.inference_mode():
        title = f"{len(prompts) * len(templates):,} texts for {images.benchmark.name}"
        classes = EncodedLabels(tuple(images.keys), owners, *class_embeddings(model, prompts, templates, title))

    counts: dict[str, Any] = dict.fromkeys(METHODS, 0)
    for squares, labels in load_batches(images, model, loading, f"{images.benchmark.name} {images.split}"):
        with torch.inference_mode():
            pooled, patches = embed(model, squares, loading.precision)  # [B, D], [B, P, D]
            scores = {"pooled": pooled @ classes.clip.T, "phi": model.phi(patches, classes.head)}  # [B, N]
            scores["mean"] = (scores["pooled"] + scores["phi"]) / 2
            for method in METHODS:
                if not scores[method].isfinite().all():
                    raise UserError(f"{images.benchmark.name}: scores are not finite; the model's weights are damaged")
                counts[method] = counts[method] + count_ranks(best_of_labels(scores[method], classes), labels)
    return counts
