"""A result says which score counts, and who chose the pictures."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from eval.classification.image_sets import open_image_set
from eval.classification.results import planned_result, with_figures
from pacl.models.loading import load_model

ARGS = Namespace(model="tiny", precision="fp32", limit=None)


def test_scores_and_protocol(colour_photos, tiny_clip):
    images = open_image_set("custom", colour_photos)
    counts = np.array([[4, 0, 0], [1, 1, 2], [0, 4, 0]])
    planned = planned_result(load_model(tiny_clip), images, "phi", {"name": "zero-shot"}, ARGS)
    assert planned.scores == {}
    found = with_figures(planned, images, counts, {"seconds": 1.0})
    assert found.scores["top1"] == pytest.approx(100 * 5 / 12)
    assert found.scores["top5"] == pytest.approx(100 * 10 / 12)
    assert found.details["per_class"] == {"blue": 100.0, "green": 25.0, "red": 0.0}
    low, high = found.intervals["top1"]
    assert low < found.scores["top1"] < high
    told = {"name": "zero-shot", "main": "top1", "classes": 3, "size": 32, "pictures": "the split's own", "limit": None}
    assert told.items() <= found.protocol.items()


@pytest.mark.parametrize(("split", "chosen"), [(None, "all"), ("train", "drawn by seed 0")])
def test_a_data_set_without_official_split_says_so(split, chosen, tmp_path, tiny_clip):
    folder = tmp_path / "eurosat/2750/Forest"
    folder.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.jpg")
    images = open_image_set("eurosat", tmp_path, split)
    found = planned_result(load_model(tiny_clip), images, "phi", {}, ARGS)
    said = f"{chosen}; there is no official split, CLIP's paper measured 5,000 pictures"
    assert found.protocol["pictures"] == said
