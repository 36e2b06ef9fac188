"""Linear probes on a set of pictures: draws, features that are kept, and a result for every number of shots."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from eval.accuracy import accuracies
from eval.image_features import kept_features
from eval.image_result import image_result
from eval.image_sets import ImageSet
from eval.linear_probe import ALL, Examples, Probe, Shots, draw_shots, probe
from eval.memory import peak_memory
from eval.result import Result
from pacl.model import PACL


def probe_results(model: PACL, train: ImageSet, test: ImageSet, args: argparse.Namespace) -> list[Result]:
    """A result for each kind of feature and number of shots: means over the seeds."""
    wanted: list[Shots] = [ALL if shots == ALL else int(shots) for shots in dict.fromkeys(args.shots)]
    seeds = list(dict.fromkeys(args.seeds))
    # Where all examples are used, a seed only draws what C is chosen on: the first one is enough.
    used = {shots: seeds[:1] if shots == ALL else seeds for shots in wanted}
    draws = {
        (shots, seed): draw_shots(train.labels, shots, seed, train.keys) for shots in wanted for seed in used[shots]
    }
    needed = np.unique(np.concatenate([indices for draw in draws.values() for indices in draw]))
    options: dict[str, Any] = {"batch": args.batch, "workers": args.workers, "precision": args.precision}
    folder = args.out / test.benchmark.name / "features"
    parts = train.subset(needed), test
    start = time.perf_counter()
    known, asked = (
        kept_features(model, images, folder, title=f"{images.benchmark.name} {images.split}", **options)
        for images in parts
    )
    embedding = time.perf_counter() - start
    results = []
    runs = [(kind, shots) for kind in dict.fromkeys(args.features) for shots in wanted]
    for kind, shots in track(runs, "probes", console=Console(stderr=True), transient=True):
        examples = Examples(known[kind].numpy(), train.labels[needed])
        aim = Examples(asked[kind].numpy(), test.labels)
        found: list[Probe] = []
        start = time.perf_counter()
        for seed in used[shots]:
            fit, validation = (examples[np.searchsorted(needed, indices)] for indices in draws[shots, seed])
            found.append(probe(fit, validation, aim, len(test.keys), refit=shots == ALL))
        protocol = {
            "name": "linear probe" if shots == ALL else "few-shot",
            "names": "none",
            "shots": shots,
            "seeds": used[shots],
            "features": kind,
            "train_split": train.split,
            "train_images": len(train),
            "train_full": train.full,
            "classifier": "scikit-learn LogisticRegression, L-BFGS, 1,000 iterations; C by validation accuracy",
        }
        speed = {
            "images_per_second": sum(map(len, parts)) / embedding,  # of training and test; kept ones are only read
            "fitting_seconds": time.perf_counter() - start,
            "peak_memory_mb": peak_memory(model.device) / 2**20,
        }
        results.append(_result(model, test, f"probe {kind} {shots}", found, protocol, args, speed))
    return results


def _result(
    model: PACL, test: ImageSet, method: str, found: Sequence[Probe], protocol: dict[str, Any],
    args: argparse.Namespace, speed: dict[str, float],
) -> Result:  # fmt: skip
    """Scores are means over seeds, each of which weighs the same; with their spread and the chosen C in the details."""
    result = image_result(model, test, method, np.sum([each.counts for each in found], axis=0), protocol, args, speed)
    every = [accuracies(each.counts) for each in found]
    result.details["seeds"] = [
        {"seed": seed, "C": each.C, "validation_top1": each.validation, **{k: float(v) for k, v in scores.items()}}
        for seed, each, scores in zip(protocol["seeds"], found, every, strict=True)
    ]
    result.details["deviation"] = {
        name: float(np.std([scores[name] for scores in every], ddof=1)) if len(every) > 1 else None for name in every[0]
    }
    result.intervals.clear()  # those of several seeds' counts together would be too narrow
    return result
