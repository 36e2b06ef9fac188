"""Results of linear probes are means over seeds, of the images that were chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from eval.classification.features import Loading
from eval.classification.image_sets import open_image_set
from eval.classification.linear_probe import planned_probes, probe_results
from eval.classification.results import Setup
from eval.common.result import Result
from pacl.classification.logistic import make_splits
from pacl.models.loading import load_model


def probed(colour_photos: Path, clip: str, out: Path, shots: list[str], seeds: list[int]) -> list[Result]:
    train, test = (open_image_set("custom", colour_photos, split) for split in ("train", "test"))
    setup = Setup.of(load_model(clip), "tiny", Loading(batch=5, workers=0))
    parts = (train, test, make_splits(train.labels, train.keys, shots, seeds), ["pooled"])
    return probe_results(setup, *parts, planned_probes(setup, *parts), out)


def test_few_shot_probes_encode_only_the_chosen_images(colour_photos, tiny_clip, tmp_path):
    probed(colour_photos, tiny_clip, tmp_path, ["2"], [0])
    (kept,) = tmp_path.glob("custom-train-*")
    assert len(load_file(kept)["pooled"]) == 3 * (2 + 2)


def test_scores_are_means_over_seeds_with_standard_deviations(colour_photos, tiny_clip, tmp_path):
    two, every = probed(colour_photos, tiny_clip, tmp_path, ["2", "all"], [0, 1, 0])
    found = [each["top1"] for each in two.details["seeds"]]
    assert [each["seed"] for each in two.details["seeds"]] == two.protocol["seeds"] == [0, 1]
    assert two.scores["top1"] == pytest.approx(np.mean(found))
    assert two.details["deviation"]["top1"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5)
    assert (two.protocol["name"], every.protocol["name"]) == ("few-shot", "linear probe")
    assert every.protocol["seeds"] == [0]  # the training examples are the same for every seed
    assert every.details["deviation"]["top1"] is None
    assert two.intervals == every.intervals == {}
    assert (two.protocol["train_images"], two.images) == (36, 12)
