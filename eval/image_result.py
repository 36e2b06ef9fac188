"""What a classifier got right on a set of pictures, as a result."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from eval.accuracy import accuracies, intervals, per_class
from eval.image_sets import ImageSet
from eval.result import Result, describe_model, made_with
from pacl.model import PACL


def image_result(
    model: PACL, images: ImageSet, method: str, counts: np.ndarray, protocol: dict[str, Any],
    args: argparse.Namespace, speed: dict[str, float],
) -> Result:  # fmt: skip
    """The scores of counts, with all that decides them.

    Args:
        model: whose features they are.
        images: the pictures that were measured.
        method: what was done with the features.
        counts: `eval.accuracy.outcomes`, int64 [C, 3].
        protocol: what decides the figures beside the pictures.
        args: the command's; ``model``, ``precision`` and ``limit`` are read.
        speed: what it cost.
    """
    shares = dict(zip(images.keys, (100 * per_class(counts)).tolist(), strict=True))
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
            "preprocessing": model.clip.clip.visual.preprocess_cfg.get("resize_mode", "shortest"),
            "precision": args.precision,
            "pictures": images.chosen,
            "limit": args.limit,
        },
        scores={name: float(value) for name, value in accuracies(counts).items()},
        intervals=intervals(counts),
        details={"classes_measured": int((counts.sum(axis=1) > 0).sum()), "per_class": shares},
        speed=speed,
        made=made_with(model.device),
    )
