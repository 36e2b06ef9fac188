"""The comparison on real captions, on a small data set whose scores are known."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.experiments import flickr8k
from pacl.errors import ArgumentError
from tests.tiny import save_tiny_clip

ROWS = "random$|most|pooled|untrained, value|^PACL, temperature 0.1$"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Twelve images with captions, and two in VOC's layout: ten rows of a dog, fifteen of an aeroplane."""
    rng = np.random.default_rng(0)

    def write_image(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)

    with (tmp_path / "captions.txt").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for i in range(12):
            write_image(tmp_path / "Images" / f"{i}.jpg")
            table.writerows([[f"{i}.jpg", f"a dog number {i}"], [f"{i}.jpg", f"star {i}"]])
    voc = tmp_path / "VOC2012"
    for name in "ab":
        write_image(voc / "JPEGImages" / f"{name}.jpg")
        mask = np.zeros((40, 40), np.uint8)  # 0 is background, which does not count
        mask[:10], mask[10:25], mask[25:28] = 12, 1, 255
        (voc / "SegmentationClass").mkdir(exist_ok=True)
        Image.fromarray(mask).save(voc / "SegmentationClass" / f"{name}.png")
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    return [
        *("--clip", save_tiny_clip(tmp_path / "clip"), "--pairs", str(tmp_path / "captions.txt"), "--hold_out", "4"),
        *("--voc", str(voc), "--seeds", "0", "1", "--epochs", "1", "--out", str(tmp_path / "out")),
    ]


def test_scores_of_all_rows(words, tmp_path, capsys):
    assert flickr8k.main([*words, "--only", ROWS]) == 0
    found = json.loads((tmp_path / "out" / "flickr8k.json").read_text())
    rows = found["rows"]
    assert list(rows) == [
        "random",
        "most frequent class",
        "CLIP's pooled embedding",
        "untrained, value",
        "PACL, temperature 0.1",
    ]
    assert [len(runs) for runs in rows.values()] == [1, 1, 1, 1, 2]
    most = rows["most frequent class"][0]
    assert most["pixel_accuracy"] == pytest.approx(60)  # aeroplane: 15 of 25 rows
    assert most["miou"] == pytest.approx(30)  # 0.6 of it, nothing of the dog; other classes do not occur
    assert rows["untrained, value"][0]["i2t R@10"] == 100  # four images with eight captions
    page = capsys.readouterr().out
    assert "| PACL, temperature 0.1 |" in page
    assert "±" in page
    with pytest.raises(ArgumentError) as error:
        flickr8k.main([*words, "--only", "random"])
    assert error.value.argument == "out"
    assert json.loads((tmp_path / "out" / "flickr8k.json").read_text()) == found
    assert flickr8k.main([*words, "--only", "^random$", "--overwrite"]) == 0
    assert list(json.loads((tmp_path / "out" / "flickr8k.json").read_text())["rows"]) == ["random"]


@pytest.mark.parametrize(
    ("more", "argument", "value"),
    [
        (["--set", "lr"], "set", "lr"),
        (["--set", "temperature=0.9"], "set", "temperature=0.9"),
        (["--set", "lr=0.1", "start=paper"], "set", "start=paper"),
        (["--only", "nothing"], "only", "nothing"),
        (["--only", "("], "only", "("),
        (["--seeds", "-1"], "seeds", -1),
        (["--clip", "no such model"], "clip", "no such model"),
    ],
)
def test_wrong_arguments(words, more, argument, value):
    with pytest.raises(ArgumentError) as error:
        flickr8k.main([*words, *more])
    assert (error.value.argument, error.value.value) == (argument, value)


def test_model_settings():
    assert flickr8k.model_settings(["lr=0.5", "text=x", "a=b=c"]) == {"lr": 0.5, "text": "x", "a": "b=c"}


def test_methods_have_the_temperature_that_their_names_state():
    """Whatever the configuration has."""
    for name, settings in flickr8k.METHODS.items():
        stated = re.search(r"temperature ([\d.]+)", name)
        assert settings["temperature"] == (float(stated[1]) if stated else float("inf"))


def test_the_page_states_what_was_changed(words, tmp_path):
    words += ["--only", "^random$"]
    assert flickr8k.main(words) == 0
    usual = json.loads((tmp_path / "out" / "flickr8k.json").read_text())["facts"]
    assert flickr8k.main([*words, "--set", "lr=0.02", "--tune", "--size", "48", "--overwrite"]) == 0
    changed = json.loads((tmp_path / "out" / "flickr8k.json").read_text())["facts"]
    page = (tmp_path / "out" / "flickr8k.md").read_text()
    new = {key: value for key, value in changed.items() if usual.get(key) != value}
    assert {"lr=0.02", 48} <= set(new.values())
    assert any("tune" in key for key in new)
    assert all(f"{key} {value}" in page for key, value in new.items())
