"""Results of classification: their scores, how the images were chosen, and their tables."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eval.classification.features import Loading
from eval.classification.image_sets import open_image_set
from eval.classification.results import Setup, markdown, protocol_text, summary
from eval.common.result import Result
from pacl.models.loading import load_model


def test_scores_and_protocol(colour_photos, tiny_clip):
    images = open_image_set("custom", colour_photos)
    counts = np.array([[4, 0, 0], [1, 1, 2], [0, 4, 0]])
    setup = Setup.of(load_model(tiny_clip), "tiny", Loading())
    planned = setup.planned(images, "phi", {"name": "zero-shot"})
    assert planned.scores == {}
    found = setup.measured(planned, images, counts, {"seconds": 1.0})
    assert found.scores["top1"] == pytest.approx(100 * 5 / 12)
    assert found.scores["top5"] == pytest.approx(100 * 10 / 12)
    assert found.details["per_class"] == {"blue": 100.0, "green": 25.0, "red": 0.0}
    low, high = found.intervals["top1"]
    assert low < found.scores["top1"] < high
    told = {"name": "zero-shot", "main": "top1", "classes": 3, "size": 32, "pictures": "one's own", "limit": None}
    assert told.items() <= found.protocol.items()


@pytest.mark.parametrize(("split", "chosen"), [(None, "all"), ("train", "random, seed 0")])
def test_a_data_set_without_official_split_says_so(split, chosen, tmp_path, tiny_clip):
    folder = tmp_path / "eurosat/2750/Forest"
    folder.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.jpg")
    images = open_image_set("eurosat", tmp_path, split)
    found = Setup.of(load_model(tiny_clip), "tiny", Loading()).planned(images, "phi", {})
    said = f"{chosen}; there is no official split, the CLIP paper uses 5,000 images"
    assert found.protocol["pictures"] == said


# --- Tables -----------------------------------------------------------------------------------------


def a_result(**changes) -> Result:
    values = {
        "task": "classification", "dataset": "oxford_pets", "split": "test", "images": 3669, "full": 3669,
        "method": "phi", "model": {"name": "bundled", "clip": "bundled", "checksum": "ab", "dense": "value"},
        "protocol": {"name": "zero-shot", "names": "clip", "main": "mean_per_class", "limit": None, "cut": False},
        "scores": {"top1": 1.0, "top5": 2.0, "mean_per_class": 3.04}, "intervals": {"mean_per_class": [2.0, 4.0]},
    }  # fmt: skip
    return Result(**{**values, **changes})


PROBE = a_result(
    dataset="a|b", method="probe pooled 4", images=6, full=12, intervals={},
    details={"deviation": {"mean_per_class": 0.26}},
    protocol={
        "name": "few-shot", "names": None, "shots": 4, "seeds": [0, 1, 2], "main": "mean_per_class", "limit": 6,
    },
)  # fmt: skip
RESULTS = [a_result(), PROBE, a_result(method="probe pooled all", intervals={}, details={"deviation": {"top1": None}})]


def test_markdown():
    lines = markdown(RESULTS).splitlines()
    assert lines[2:7] == [
        "| data set | images | method | top-1 | top-5 | per class |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| oxford_pets test | 3,669 | phi | 1.0 | 2.0 | **3.0** (2.0-4.0) |",
        "| a\\|b test | 6/12 | probe pooled 4 | 1.0 | 2.0 | **3.0** ± 0.3 |",
        "| oxford_pets test | 3,669 | probe pooled all | 1.0 | 2.0 | **3.0** |",
    ]
    assert "- Model: bundled (weights ab, dense variant value, no trained head)." in lines
    said = "zero-shot; class names: clip; main score: mean per class; cut no"
    assert f"- oxford_pets, phi: {said}." in lines


def test_settings_are_described_in_words():
    assert protocol_text(PROBE.protocol) == (
        "few-shot; 4 training images per class; mean over seeds 0, 1 and 2; "
        "main score: mean per class; 6 of them, evenly spaced"
    )
    assert protocol_text({"shots": "all", "seeds": [3]}) == "all training images; seed 3"


def test_the_table_for_the_terminal():
    console = Console(width=80, file=io.StringIO())
    console.print(summary(RESULTS))
    text = console.file.getvalue()
    assert "Oxford-IIIT Pet test" in text
    assert "6/12" in text
    assert "model bundled" in text
    assert "3.0 (2.0-4.0)" in text
    assert "3.0 ± 0.3" in text
    assert "95 % confidence interval over images, or ± the standard deviation over seeds" in " ".join(text.split())
