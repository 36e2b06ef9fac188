"""Linear probes on a set of pictures: features that are kept, and a result for every number of shots."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.classification.features import kept_features, tracked
from eval.classification.image_sets import ImageSet
from eval.classification.linear_probe import ALL, Draws, Examples, Probe, Shots, probe
from eval.classification.results import DIGITS, planned_result, with_figures
from eval.common.memory import peak_memory
from eval.common.result import Result
from pacl.metrics.accuracy import accuracies
from pacl.models.model import PACL


def planned_probes(
    model: PACL, train: ImageSet, test: ImageSet, draws: Draws, args: argparse.Namespace
) -> list[Result]:
    """A result for each kind of feature and number of shots, without figures."""
    found = []
    pictures = train.subset(draws.needed).digest()[:DIGITS]
    for kind, shots in _runs(draws, args):
        protocol: dict[str, Any] = {
            "name": "linear probe" if shots == ALL else "few-shot",
            "names": None,
            "shots": shots,
            "seeds": draws.seeds[shots],
            "features": kind,
            "train_split": train.split,
            "train_images": len(train),
            "train_full": train.full,
            "train_sha256": pictures,
            "classifier": "scikit-learn LogisticRegression, L-BFGS, 1,000 iterations; C by validation accuracy",
        }
        found.append(planned_result(model, test, f"probe {kind} {shots}", protocol, args))
    return found


def probe_results(
    model: PACL, train: ImageSet, test: ImageSet, draws: Draws, planned: Sequence[Result], folder: Path,
    args: argparse.Namespace,
) -> list[Result]:  # fmt: skip
    """What `planned_probes` planned, with its figures: means over the seeds.

    Args:
        model: whose features they are.
        train: the pictures that examples are drawn from.
        test: the pictures that are measured.
        draws: the examples drawn.
        planned: the results to fill in.
        folder: where features are kept.
        args: the command's.
    """
    options: dict[str, Any] = {"batch": args.batch, "workers": args.workers, "precision": args.precision}
    parts = train.subset(draws.needed), test
    start = time.perf_counter()
    known, asked = (
        kept_features(model, images, folder, title=f"{images.benchmark.name} {images.split}", **options)
        for images in parts
    )
    embedding = time.perf_counter() - start
    results = []
    runs = list(zip(_runs(draws, args), planned, strict=True))
    for (kind, shots), result in tracked(runs, "probes"):
        examples = Examples(known[kind].numpy(), train.labels[draws.needed])
        aim = Examples(asked[kind].numpy(), test.labels)
        found: list[Probe] = []
        start = time.perf_counter()
        for seed in draws.seeds[shots]:
            fit, validation = (examples[np.searchsorted(draws.needed, part)] for part in draws.drawn[shots, seed])
            found.append(probe(fit, validation, aim, len(test.keys), refit=shots == ALL))
        speed = {
            "images_per_second": sum(map(len, parts)) / embedding,  # of training and test; kept ones are only read
            "fitting_seconds": time.perf_counter() - start,
            "peak_memory_mb": peak_memory(model.device) / 2**20,
        }
        results.append(_over_seeds(result, test, found, draws.seeds[shots], speed))
    return results


def _runs(draws: Draws, args: argparse.Namespace) -> list[tuple[str, Shots]]:
    return [(kind, shots) for kind in dict.fromkeys(args.features) for shots in draws.seeds]


def _over_seeds(
    planned: Result, test: ImageSet, found: Sequence[Probe], seeds: Sequence[int], speed: dict[str, float]
) -> Result:
    """Scores are means over seeds, each of which weighs the same; with their spread and the chosen C in the details."""
    result = with_figures(planned, test, np.sum([each.counts for each in found], axis=0), speed)
    every = [accuracies(each.counts) for each in found]
    details = {
        "seeds": [
            {"seed": seed, "C": each.C, "validation_top1": each.validation, **{k: float(v) for k, v in scores.items()}}
            for seed, each, scores in zip(seeds, found, every, strict=True)
        ],
        "deviation": {
            name: float(np.std([scores[name] for scores in every], ddof=1)) if len(every) > 1 else None
            for name in every[0]
        },
    }
    # Intervals of several seeds' counts together would be too narrow.
    return dataclasses.replace(result, details={**result.details, **details}, intervals={})
