"""Runs of probes: what is embedded, and what a result says of several draws."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from eval.classification.image_sets import open_image_set
from eval.classification.linear_probe import draw
from eval.classification.probing import planned_probes, probe_results
from eval.common.result import Result
from pacl.models.loading import load_model

ARGS = {"features": ["pooled"], "batch": 5, "workers": 0, "precision": "fp32", "limit": None, "model": "tiny"}


def probed(colour_photos: Path, clip: str, out: Path, shots: list[str], seeds: list[int]) -> list[Result]:
    train, test = (open_image_set("custom", colour_photos, split) for split in ("train", "test"))
    args, model, draws = Namespace(**ARGS), load_model(clip), draw(train.labels, train.keys, shots, seeds)
    planned = planned_probes(model, train, test, draws, args)
    return probe_results(model, train, test, draws, planned, out, args)


def test_few_shot_runs_embed_only_what_they_draw(colour_photos, tiny_clip, tmp_path):
    probed(colour_photos, tiny_clip, tmp_path, ["2"], [0])
    (kept,) = tmp_path.glob("custom-train-*")
    assert len(load_file(kept)["pooled"]) == 3 * (2 + 2)


def test_scores_are_means_over_seeds_with_their_spread(colour_photos, tiny_clip, tmp_path):
    two, every = probed(colour_photos, tiny_clip, tmp_path, ["2", "all"], [0, 1, 0])
    found = [each["top1"] for each in two.details["seeds"]]
    assert [each["seed"] for each in two.details["seeds"]] == two.protocol["seeds"] == [0, 1]
    assert two.scores["top1"] == pytest.approx(np.mean(found))
    assert two.details["deviation"]["top1"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5)
    assert (two.protocol["name"], every.protocol["name"]) == ("few-shot", "linear probe")
    assert every.protocol["seeds"] == [0]  # all examples are the same ones for every seed
    assert every.details["deviation"]["top1"] is None
    assert two.intervals == every.intervals == {}
    assert (two.protocol["train_images"], two.images) == (36, 12)
