"""Masks that are there already: scored as `eval.segmentation` scores those that it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.common.result import read_results
from eval.segmentation import compare
from eval.segmentation import run as segmentation
from pacl.data.masks import MaskFolder
from pacl.errors import ArgumentError, UserError
from pacl.metrics.segmentation import iou, scores
from pacl.scenes.drawing import scene
from pacl.segment import main as segment


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Images, masks and classes of a few scenes."""
    scenes = [scene("test", i, pairs="all", size=(48, 64)) for i in range(5)]
    names = sorted({name for each in scenes for name in each.names})
    for folder in ("images", "masks"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    for i, each in enumerate(scenes):
        table = np.array([names.index(name) for name in each.names], np.uint8)
        place = "sub/" * (i % 2) + str(i)
        Image.fromarray(each.image).save(tmp_path / f"images/{place}.png")
        Image.fromarray(table[np.asarray(each.mask)]).save(tmp_path / f"masks/{place}.png")
    (tmp_path / "classes.txt").write_text("\n".join(names))
    return tmp_path


@pytest.mark.parametrize("settings", [[], ["--stride", "4", "--prior", "-0.3", "--refine", "2"]], ids=["plain", "set"])
@pytest.mark.parametrize("kind", ["mmseg", "mask"])
def test_exported_masks_have_the_scores_of_the_evaluation(kind: str, settings: list[str], drawn: Path) -> None:
    classes, model = ["--classes", str(drawn / "classes.txt")], ["--model", "bundled", "--device", "cpu"]
    truth = ["custom", "--images", str(drawn / "images"), "--masks", str(drawn / "masks"), *classes]
    how = ["--protocol", "segment", "--workers", "0", "--no_figures", "--out", str(drawn / "scores")]
    assert segmentation.main([*truth, *model, *how, *settings]) == 0
    (result,) = read_results(drawn / "scores")

    results = ["--format", kind, "--out", str(drawn / "out")]
    assert segment([str(drawn / "images"), *classes, *model, *results, *settings]) == 0
    if kind == "mmseg":
        predictions, offset, ending = drawn / "out/mmseg/ann_dir", 0, ".png"
    else:  # ids, from 1
        predictions, offset, ending = drawn / "out", 1, ".mask.png"
    folder = MaskFolder(str(drawn / "images"), str(drawn / "masks"), str(drawn / "classes.txt"))
    areas, images = compare.compare(folder, str(predictions), offset, ending)
    assert images == 5
    assert result.scores["miou"] == pytest.approx(100 * float(scores(areas)["miou"]))
    assert 1 < result.scores["miou"] < 99
    assert [np.nan if x is None else x for x in result.details["iou"]] == pytest.approx(100 * iou(areas), nan_ok=True)


def masks(folder: Path, **values: int) -> None:
    folder.mkdir()
    for name, value in values.items():
        Image.new("L", (4, 2), value).save(folder / f"{name}.png")


def folders(tmp_path: Path) -> list[str]:
    masks(tmp_path / "truth", a=0, b=1)
    masks(tmp_path / "images", a=9, b=9)
    (tmp_path / "classes.txt").write_text("sky\ngrass\n")
    return [
        *("custom", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "truth")),
        *("--classes", str(tmp_path / "classes.txt"), "--predictions", str(tmp_path / "found")),
    ]


@pytest.mark.parametrize(
    ("values", "words", "figures"),
    [
        ({"a": 0, "b": 1}, [], "mIoU 100.00, pixel accuracy 100.00, mean accuracy 100.00"),
        ({"a": 0, "b": 255}, [], "mIoU 50.00, pixel accuracy 50.00, mean accuracy 50.00"),
        ({"a": 1, "b": 0}, ["--prediction_offset", "1"], "mIoU 50.00, pixel accuracy 50.00, mean accuracy 50.00"),
        ({"a": 1, "b": 1}, [], "mIoU 25.00, pixel accuracy 50.00, mean accuracy 50.00"),
    ],
)
def test_the_command(values, words, figures, tmp_path, capsys) -> None:
    words = [*folders(tmp_path), *words]
    masks(tmp_path / "found", **values)
    assert compare.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"2 images: {figures}"


@pytest.mark.parametrize("values", [{"a": 0}, {"a": 0, "b": 2}], ids=["missing", "no class"])
def test_what_cannot_be_scored_is_named(values, tmp_path) -> None:
    words = folders(tmp_path)
    masks(tmp_path / "found", **values)
    with pytest.raises(UserError):
        compare.main(words)


def test_partial_leaves_out_images_without_a_mask_or_a_prediction(tmp_path, capsys) -> None:
    words = folders(tmp_path)
    for name, value in {"c": 0, "d": 1}.items():
        Image.new("L", (4, 2), 9).save(tmp_path / f"images/{name}.png")
        Image.new("L", (4, 2), value).save(tmp_path / f"truth/{name}.png")
    (tmp_path / "truth/a.png").unlink()
    masks(tmp_path / "found", a=1, b=1, c=0)  # none of d: as many as there are masks, but of other images
    with pytest.raises(UserError):
        compare.main(words)
    assert compare.main([*words, "--partial"]) == 0
    *_, note, line = capsys.readouterr().out.splitlines()
    assert line == "2 images: mIoU 100.00, pixel accuracy 100.00, mean accuracy 100.00"
    assert note.startswith("2 images")


def test_partial_refuses_predictions_of_none_of_the_images_with_a_mask(tmp_path) -> None:
    words = folders(tmp_path)
    (tmp_path / "truth/a.png").unlink()
    masks(tmp_path / "found", a=0)
    with pytest.raises(UserError, match="found"):
        compare.main([*words, "--partial"])


def test_a_limit_of_a_partial_truth_counts_its_own_images(tmp_path) -> None:
    (tmp_path / "classes.txt").write_text("sky")
    masks(tmp_path / "truth", a=0, b=0, c=0, d=0)
    masks(tmp_path / "found", a=0, b=0, c=0)
    truth = MaskFolder(*[str(tmp_path / name) for name in ("truth", "truth", "classes.txt")], limit=2, partial=True)
    assert [name for name, *_ in truth.files] == ["a", "c"]
    assert compare.compare(truth, str(tmp_path / "found"))[1] == 2


@pytest.mark.parametrize(
    ("values", "offset"), [({"a": 0, "b": 1}, 300), ({"a": 0, "b": 1}, 2), ({"a": 255, "b": 255}, 0)]
)
def test_predictions_without_any_class_are_refused(values, offset, tmp_path) -> None:
    words = [*folders(tmp_path), "--prediction_offset", str(offset)]
    masks(tmp_path / "found", **values)
    with pytest.raises(ArgumentError) as error:
        compare.main(words)
    assert (error.value.argument, error.value.value) == ("prediction_offset", offset)


def test_a_truth_without_any_class_is_refused(tmp_path) -> None:
    words = folders(tmp_path)
    for name in ("a", "b"):
        Image.new("L", (4, 2), 255).save(tmp_path / f"truth/{name}.png")
    masks(tmp_path / "found", a=0, b=1)
    with pytest.raises(UserError, match="truth"):
        compare.main(words)


def test_an_offset_beyond_all_values_is_one_short_line(tmp_path) -> None:
    words = [*folders(tmp_path), "--prediction_offset", "65536"]
    masks(tmp_path / "found", a=0, b=1)
    with pytest.raises(ArgumentError) as error:
        compare.main(words)
    assert (error.value.argument, len(str(error.value)) < 200) == ("prediction_offset", True)


def test_an_ending_that_no_prediction_has_is_named(tmp_path) -> None:
    words = [*folders(tmp_path), "--prediction_ending", ".mask.png"]
    masks(tmp_path / "found")
    for name in ("a", "b"):
        (tmp_path / f"found/{name}.json").touch()  # records
    with pytest.raises(ArgumentError) as error:
        compare.main(words)
    assert (error.value.argument, error.value.value) == ("prediction_ending", ".mask.png")
    assert "convert" not in error.value.reason


def test_predictions_of_another_ending_are_named_and_read(tmp_path) -> None:
    words = folders(tmp_path)
    masks(tmp_path / "found", **{"a.mask": 0, "b.mask": 1})
    with pytest.raises(ArgumentError) as error:
        compare.main(words)
    assert (error.value.argument, error.value.value) == ("prediction_ending", ".png")
    assert ".mask.png" in error.value.reason
    assert compare.main([*words, "--prediction_ending", ".mask.png"]) == 0


def test_a_mask_of_another_size_is_named(tmp_path) -> None:
    words = folders(tmp_path)
    masks(tmp_path / "found", a=0, b=0)
    Image.new("L", (5, 2)).save(tmp_path / "found/b.png")
    with pytest.raises(UserError, match=r"b\.png"):
        compare.main(words)
