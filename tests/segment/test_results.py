"""Masks, records and JSON: what a run writes and prints."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import pacl.segment
from pacl.cli.messages import run_verb
from pacl.scenes.drawing import scene
from pacl.segment import main
from tests.commands import Run
from tests.segment.records import record


def test_by_default_mask_overlay_and_record(run: Run, here: Path) -> None:
    code, out, err = run("photo.png", "a dog", "grass")
    assert (code, err) == (0, "")
    assert {path.name for path in (here / "out").iterdir()} == {"photo.overlay.png", "photo.mask.png", "photo.json"}
    for name in ("photo.overlay.png", "photo.mask.png", "photo.json"):
        assert f"out/{name}" in out  # says where the results are
    mask = np.asarray(Image.open("out/photo.mask.png"))
    assert mask.shape == (32, 48)
    found = json.loads(Path("out/photo.json").read_text())
    assert [label["label"] for label in found["labels"]] == ["a dog", "grass"]
    for label in found["labels"]:
        np.testing.assert_array_equal(coco_mask.decode(label["rle"]), mask == label["id"])
        assert label["share"] == pytest.approx((mask == label["id"]).mean())


def test_json_is_alone_on_standard_output(run: Run) -> None:
    code, out, err = run("photo.png", "a dog", "grass", "--json")
    assert (code, err) == (0, "")
    assert out == out.splitlines()[0] + "\n"
    assert json.loads(out) == json.loads(Path("out/photo.json").read_text())


def test_the_same_command_gives_the_same_files(run: Run, here: Path) -> None:
    words = ("photo.png", "a dog", "grass", "--format", "overlay,mask,heat,rle,polygons")
    run(*words)
    first = {path.name: path.read_bytes() for path in (here / "out").iterdir()}
    run(*words)
    assert first == {path.name: path.read_bytes() for path in (here / "out").iterdir()}


def test_json_of_a_folder_is_a_line_a_picture(run: Run, here: Path) -> None:
    for name in ("a", "b"):
        shutil.copy("photo.png", f"{name}.png")
    Path("c.png").touch()
    code, out, err = run("a.png", "c.png", "b.png", "a dog", "grass", "--json", "--format", "mask")
    assert code == 1
    assert [json.loads(row)["image"] for row in out.splitlines()] == ["a.png", "b.png"]
    assert "c.png is empty" in err
    assert err.splitlines()[-1].startswith("2 of 3 images segmented, 1 failed")


def test_out_names_the_folder(run: Run) -> None:
    run("photo.png", "a dog", "grass", "--out", "some/where", "--format", "mask")
    assert {path.name for path in Path("some/where").iterdir()} == {"photo.mask.png", "photo.json"}
    assert not Path("out").exists()


def test_json_is_whole_whatever_the_encoding(run: Run, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="cp1252"))
    with pytest.raises(SystemExit) as stop:
        run_verb("pacl segment", lambda: main(["photo.png", "犬", "a dog", "--json", "--model", tiny_clip]))
    assert stop.value.code == 0
    assert json.loads(content.getvalue())["labels"][0]["label"] == "犬"


def test_the_demo_is_right(run: Run) -> None:
    """What is drawn is found: the command's own mask against the scene's."""
    drawn = scene("test", 93, pairs="all", n_objects=4, size=(480, 640))
    Image.fromarray(drawn.image).save("scene.png")
    code, _, err = run("scene.png", *drawn.names, "--size", "96", "--stride", "4", "--refine", "10", model="bundled")
    assert (code, err) == (0, "")
    mask = np.asarray(Image.open("out/scene.mask.png"))
    for i, name in enumerate(drawn.names):
        found, true = mask == i + 1, drawn.mask == i
        assert (found & true).sum() / (found | true).sum() > 0.75, name
    shipped = Path(pacl.segment.__file__).with_name("bundled") / "demo.jpg"
    difference = np.asarray(Image.open(shipped)).astype(int) - drawn.image
    assert np.abs(difference).mean() < 5  # the picture that ships is this scene, as JPEG


def test_names_with_line_breaks_forge_no_lines_and_long_ones_are_cut(run: Run, here: Path) -> None:
    names = ["a\n[2-2] forged.png", "x" * 250 + ".png"]
    (here / "odd").mkdir()
    for name in names:
        shutil.copy(here / "photo.png", here / "odd" / name)
    code, out, err = run("odd", "a dog", "grass", "--format", "overlay,rle,heat,labelme,yolo,mmseg")
    assert (code, err) == (0, "")
    assert len([line for line in out.splitlines() if line.startswith("[")]) == 2
    assert "a\\n[2-2] forged.png" in out
    records = [json.loads(path.read_text(encoding="utf-8"))["image"] for path in sorted((here / "out").glob("*.json"))]
    assert records == [f"odd/{name}" for name in names]  # the names themselves


def test_the_record_states_the_background_rule_that_was_used(run: Run) -> None:
    assert record(run, "a dog", "grass")["settings"]["background"] == "none"
    assert record(run, "a dog")["settings"]["background"] == "contrast"
    assert record(run, "a dog", "grass", "--background", "entropy:0.1")["settings"]["background"] == "entropy:0.1"
