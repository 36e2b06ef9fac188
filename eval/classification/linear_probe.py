"""Results of linear probes: accuracy of a linear classifier trained on frozen features, with all or few examples.

The protocol is that of `pacl.classification.logistic`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.classification.features import cached_features
from eval.classification.image_sets import ImageSet
from eval.classification.results import DIGITS, Setup
from eval.common.result import Result
from pacl.classification.logistic import ALL, Examples, Shots, Splits, Trained, train_classifier
from pacl.cli.progress import tracked
from pacl.metrics.accuracy import accuracies, count_ranks

CHUNK = 4096  # test examples that are classified at a time


def planned_probes(setup: Setup, train: ImageSet, test: ImageSet, splits: Splits, kinds: Sequence[str]) -> list[Result]:
    """The results of `probe_results` before they are measured: settings without scores.

    Args:
        setup: model and settings.
        train: images from which training examples are chosen.
        test: test images.
        splits: the examples that are chosen.
        kinds: kinds of features, see `eval.classification.features.features`.
    """
    found = []
    digest = train.subset(splits.needed).digest()[:DIGITS]
    for kind, shots in _runs(splits, kinds):
        protocol: dict[str, Any] = {
            "name": "linear probe" if shots == ALL else "few-shot",
            "names": None,
            "shots": shots,
            "seeds": splits.seeds[shots],
            "features": kind,
            "train_split": train.split,
            "train_images": len(train),
            "train_full": train.full,
            "train_sha256": digest,
            "classifier": "scikit-learn LogisticRegression, L-BFGS, 1,000 iterations; C by validation accuracy",
        }
        found.append(setup.planned(test, f"probe {kind} {shots}", protocol))
    return found


def probe_results(
    setup: Setup, train: ImageSet, test: ImageSet, splits: Splits, kinds: Sequence[str], planned: Sequence[Result],
    folder: Path,
) -> list[Result]:  # fmt: skip
    """Train and test all probes.

    Args:
        setup, train, test, splits, kinds: as in `planned_probes`.
        planned: the result of `planned_probes`.
        folder: folder in which features are cached.

    Returns:
        The planned results with their scores, which are means over the seeds.
    """
    parts = train.subset(splits.needed), test
    start = time.perf_counter()
    train_features, test_features = (
        cached_features(setup.model, images, folder, setup.loading, f"{images.benchmark.name} {images.split}")
        for images in parts
    )
    embedding = time.perf_counter() - start
    results = []
    runs = list(zip(_runs(splits, kinds), planned, strict=True))
    for (kind, shots), result in tracked(runs, "probes"):
        examples = Examples(train_features[kind].numpy(), train.labels[splits.needed])
        test_examples = Examples(test_features[kind].numpy(), test.labels)
        found: list[Trained] = []
        start = time.perf_counter()
        for seed in splits.seeds[shots]:
            fit, validation = (examples[np.searchsorted(splits.needed, part)] for part in splits.indices[shots, seed])
            found.append(train_classifier(fit, validation, len(test.keys), refit=shots == ALL))
        counts = [count_answers(each, test_examples) for each in found]
        speed = {
            "images_per_second": sum(map(len, parts)) / embedding,  # far higher if features come from the cache
            "fitting_seconds": time.perf_counter() - start,
        }
        measured = setup.measured(result, test, np.sum(counts, axis=0), speed)
        details = _seed_details(found, counts, splits.seeds[shots])
        # No intervals: all seeds have the same test images, so an interval of their summed counts would be too narrow.
        results.append(dataclasses.replace(measured, details={**measured.details, **details}, intervals={}))
    return results


def _runs(splits: Splits, kinds: Sequence[str]) -> list[tuple[str, Shots]]:
    """(kind of features, shots) of each result."""
    return [(kind, shots) for kind in dict.fromkeys(kinds) for shots in splits.seeds]


def count_answers(trained: Trained, test: Examples) -> np.ndarray:
    """`pacl.metrics.accuracy.count_ranks` of the test examples, int64 [C, 3]; only a chunk's scores are in memory."""
    chunks = (test[first : first + CHUNK] for first in range(0, len(test.labels), CHUNK))
    counts = np.zeros((len(trained.classifier.bias), 3), dtype=np.int64)
    for chunk in chunks:
        counts += count_ranks(torch.from_numpy(trained.classifier(chunk.features)), torch.from_numpy(chunk.labels))
    return counts


def _seed_details(found: Sequence[Trained], counts: Sequence[np.ndarray], seeds: Sequence[int]) -> dict[str, Any]:
    """C and scores of each seed, and the standard deviation of the scores over seeds (None for one seed)."""
    every = [accuracies(each) for each in counts]
    return {
        "seeds": [
            {"seed": seed, "C": each.C, "validation_top1": each.validation, **{k: float(v) for k, v in scores.items()}}
            for seed, each, scores in zip(seeds, found, every, strict=True)
        ],
        "deviation": {
            name: float(np.std([scores[name] for scores in every], ddof=1)) if len(every) > 1 else None
            for name in every[0]
        },
    }
