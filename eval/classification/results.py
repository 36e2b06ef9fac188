"""What a classifier got right on a set of pictures, as a result: planned before it is measured, then filled in."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np

from eval.classification.image_sets import ImageSet
from eval.common.result import Result, describe_model, made_with
from pacl.metrics.accuracy import accuracies, accuracy_intervals, per_class
from pacl.models.model import PACL

DIGITS = 16  # of SHA-256, in hexadecimal


def planned_result(
    model: PACL, images: ImageSet, method: str, protocol: dict[str, Any], args: argparse.Namespace
) -> Result:
    """A result without figures: all that decides them.

    Args:
        model: whose features they are.
        images: the pictures that are measured.
        method: what is done with the features.
        protocol: what decides the figures beside the pictures.
        args: the command's; ``model``, ``precision`` and ``limit`` are read.
    """
    return Result(
        task="classification",
        dataset=images.benchmark.name,
        split=images.split,
        images=len(images),
        full=images.full,
        method=method,
        model=describe_model(model, args.model),
        protocol={
            **protocol,
            "main": images.benchmark.main,
            "classes": len(images.keys),
            "size": model.clip.size,
            "preprocessing": model.clip.preprocessing.get("resize_mode", "shortest"),
            "precision": args.precision,
            "pictures": images.chosen,
            "limit": args.limit,
            "pictures_sha256": images.digest()[:DIGITS],
        },
        scores={},
        made=made_with(model.device),
    )


def with_figures(planned: Result, images: ImageSet, counts: np.ndarray, speed: dict[str, float]) -> Result:
    """The result with the scores of counts.

    Args:
        planned: of `planned_result`.
        images: the pictures that were measured.
        counts: `pacl.metrics.accuracy.count_ranks`, int64 [C, 3].
        speed: what it cost.
    """
    shares = dict(zip(images.keys, (100 * per_class(counts)).tolist(), strict=True))
    return dataclasses.replace(
        planned,
        scores={name: float(value) for name, value in accuracies(counts).items()},
        intervals=accuracy_intervals(counts),
        details={"classes_measured": int((counts.sum(axis=1) > 0).sum()), "per_class": shares},
        speed=speed,
    )
