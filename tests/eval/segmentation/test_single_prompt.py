from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.segmentation import single_prompt
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.models.loading import load_model
from pacl.models.model import PACL
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import COLOURS, ColourModel


def test_a_thing_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    """The bundled model, asked for one thing at a time."""
    model = load_model("bundled")
    margin = model.config.contrast_margin
    for pairs in ("seen", "held_out"):
        ious, shares = single_prompt.measure(model, [margin], "test", pairs, 12)[margin]
        assert sorted(ious)[len(ious) // 2] >= 0.5
        assert sum(shares) / len(shares) < 0.02
    assert model.config.contrast_margin == margin


def test_a_wider_margin_gives_more_pixels() -> None:
    found = single_prompt.measure(load_model("bundled"), [0.0, 0.3], "val", "seen", 3)
    assert sum(found[0.3][1]) > sum(found[0.0][1])


def test_margins_are_measured_with_a_calibrated_head_too() -> None:
    model = load_model("bundled")
    model.centre, model.config.presence = torch.zeros(model.config.vector_width), 0.1
    found = single_prompt.measure(model, [0.0, 0.3], "val", "seen", 3)
    assert sum(found[0.3][1]) > sum(found[0.0][1])


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert single_prompt.main(["--scenes", "1", "--margins", "0.1"]) == 0
    assert capsys.readouterr().out.count("0.10") == 2
    with pytest.raises(UserError, match="scenes 0"):
        single_prompt.main(["--scenes", "0"])


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["--names", "dog"], "names"),
        (["--limit", "3"], "limit"),
        (["--backgrounds", "none"], "backgrounds"),
        (["--out", "found.json"], "out"),
        (["--data", "x"], "data"),
        (["--partial"], "partial"),
        (["--masks", "x"], "masks"),
        (["voc21", "--margins", "0.1"], "margins"),
        (["voc21", "--scenes", "3"], "scenes"),
        (["voc21", "--masks", "x"], "masks"),
        (["custom", "--images", ".", "--masks", ".", "--classes", __file__, "--split", "val"], "split"),
    ],
)
def test_flags_without_effect_are_refused(words: list[str], argument: str) -> None:
    with pytest.raises(ArgumentError) as error:
        single_prompt.main(words)
    assert error.value.argument == argument


def test_names_that_no_photo_shows_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    shown = single_prompt.Found("red", "none", [1.0], [])
    for found, table in (
        ([shown, single_prompt.Found("blue", "none")], True),
        ([single_prompt.Found("blue", "x")], False),
    ):
        single_prompt.print_photos(found)
        out, err = capsys.readouterr()
        assert bool(out) == table
        assert len(err.splitlines()) == 1
        assert "blue" in err
        assert "red" not in err


# --- photos -----------------------------------------------------------------------------------------


def folder_of(tmp_path: Path) -> MaskFolder:
    """Two images: the left half red on grey, and all of it blue on nothing."""
    for i, (left, right, classes) in enumerate((("red", "grey", (1, 0)), ("blue", "blue", (2, 255)))):
        image, mask = np.empty((64, 64, 3), np.uint8), np.empty((64, 64), np.uint8)
        image[:, :32], image[:, 32:] = COLOURS[left], COLOURS[right]
        mask[:, :32], mask[:, 32:] = classes
        for name, array in (("images", image), ("masks", mask)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / name / f"{i}.png")
    (tmp_path / "names.txt").write_text("grey\nred\nblue\n")
    return MaskFolder(str(tmp_path / "images"), str(tmp_path / "masks"), str(tmp_path / "names.txt"))


def test_each_name_is_asked_of_each_photo_under_each_rule(tmp_path: Path) -> None:
    model: Any = ColourModel()
    rules = [SegmenterSettings(background=rule) for rule in ("contrast", "none")]
    red, blue, red_alone, blue_alone = single_prompt.measure_photos(model, folder_of(tmp_path), [1, 2], rules)
    assert (red.name, red.background, blue_alone.background) == ("red", "contrast", "none")
    assert len(red.ious) == len(red.shares) == 1
    assert red.ious[0] > 0.9
    assert red.shares == [0]
    assert red.kept_out == red.reached == 1
    assert blue.ious == [1]  # pixels without a class do not count
    assert red_alone.ious == [0.5]  # alone it wins everywhere
    assert red_alone.kept_out == 0


def test_a_rule_that_is_spelt_in_two_ways_is_measured_once(tmp_path: Path) -> None:
    model: Any = ColourModel()
    rules = [SegmenterSettings(background=rule) for rule in ("auto", "contrast", "none")]
    found = single_prompt.measure_photos(model, folder_of(tmp_path), [1, 2], rules)
    assert [(each.name, each.background) for each in found] == [
        (name, rule) for rule in ("contrast", "none") for name in ("red", "blue")
    ]


def test_classes_with_one_prompt_are_one_object(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (tmp_path / "names.txt").write_text("grey\nred=left\nred=right\n")
    model: Any = ColourModel()
    (found,) = single_prompt.measure_photos(model, folder, [1, 2], [SegmenterSettings(background="none")])
    assert found.name == "red"
    assert found.ious == [0.5, 1]  # both photos, each once: the left class is in one, the right class in the other
    assert not found.shares


def test_the_command_on_photos(tmp_path: Path, tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(tmp_path)
    words = ["custom", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--has_background"]
    words += ["--classes", str(tmp_path / "names.txt"), "--model", tiny_clip, "--out", str(tmp_path / "found.json")]
    assert single_prompt.main([*words, "--backgrounds", "none", "prompt:green"]) == 0
    assert "mean" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [(each["name"], each["background"]) for each in found] == [
        (name, rule) for rule in ("none", "prompt:green") for name in ("red", "blue")
    ]
    twice = [*words[:-2], "--backgrounds", "none", "--names", "red", "red", "--out", str(tmp_path / "red.json")]
    assert single_prompt.main(twice) == 0
    (red,) = json.loads((tmp_path / "red.json").read_text())["rows"]
    assert len(red["ious"]) == len(red["shares"]) == 1
    with pytest.raises(UserError, match="names grey"):
        single_prompt.main([*words, "--names", "grey"])
    with pytest.raises(UserError, match="backgrounds"):
        single_prompt.main([*words, "--backgrounds", "none"])
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_that_was_asked_for_is_used_and_stated(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Recorder(Segmenter):
        def __init__(self, model: PACL, settings: SegmenterSettings) -> None:
            used.append(settings.precision)
            super().__init__(model, settings)

    monkeypatch.setattr(single_prompt, "Segmenter", Recorder)
    folder_of(tmp_path)
    words = ["custom", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--has_background"]
    words += ["--classes", str(tmp_path / "names.txt"), "--model", "bundled", "--precision", precision]
    assert single_prompt.main([*words, "--out", str(tmp_path / "found.json")]) == 0
    assert single_prompt.main(["--scenes", "1", "--precision", precision]) == 0
    assert set(used) == {precision}
    assert json.loads((tmp_path / "found.json").read_text())["arguments"]["precision"] == precision
