from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.segmentation import prediction_sheet as module
from eval.segmentation.prediction_sheet import OPACITY, UNSCORED, Sample, prediction_sheet
from pacl.results.contact_sheet import Row
from pacl.results.palette import palette

CLASSES = ["background", "cat", "dog", "horse", "a class with a name that is by far too long for a legend"]


@pytest.fixture
def sample() -> Sample:
    """A grey image: the left half is cat, the right half background, the lowest fifth ignored."""
    image = np.full((210, 420, 3), 100, np.uint8)
    target = np.zeros((210, 420), np.int32)
    target[:, :210] = 1
    target[168:] = -1
    swapped = np.where(np.arange(420) < 210, 0, 1)[None].repeat(210, axis=0)
    return Sample("caption", image, target, {"right": target.clip(0), "swapped": swapped})


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of the sheets that are drawn."""
    caught: list[Row] = []
    draw = module.contact_sheet
    monkeypatch.setattr(module, "contact_sheet", lambda rows: (caught.extend(rows), draw(rows))[1])
    return caught


def test_ground_truth_and_predictions_have_the_same_colours(tmp_path: Path, sample: Sample, rows: list[Row]) -> None:
    prediction_sheet(tmp_path / "sheet.jpg", [sample], CLASSES, "title")
    assert [row.title for row in rows] == ["title", "caption"]
    assert [tile.caption for tile in rows[1].tiles] == ["image", "ground truth", "right", "swapped"]
    image, truth, right, swapped = (tile.image for tile in rows[1].tiles)
    cat = np.rint((1 - OPACITY) * 100 + OPACITY * palette(5)[2].astype(float))  # ids of the palette start at 1
    background = np.rint(100 * (1 - OPACITY / 2))
    assert np.array_equal(image, sample.image)
    for panel, (left, other) in ((truth, (cat, background)), (right, (cat, background)), (swapped, (background, cat))):
        assert np.abs(panel[:168, :210] - left).max() <= 1
        assert np.abs(panel[:168, 210:] - other).max() <= 1
    assert set(np.unique(truth[168:])) == {120, 235}  # hatched: ignored
    assert 0.5 < (truth[168:] == 235).mean() < 0.75
    assert not (right == 235).any()
    faint = OPACITY * UNSCORED  # where no figure counts
    assert np.abs(swapped[168:, 210:] - ((1 - faint) * 100 + faint * palette(5)[2].astype(float))).max() <= 1
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > 4 * 420


def test_the_legend_names_the_classes_of_the_row(tmp_path: Path, sample: Sample, rows: list[Row]) -> None:
    predictions = {**sample.predictions, "other": np.full_like(sample.target, 4)}
    prediction_sheet(tmp_path / "sheet.png", [sample._replace(predictions=predictions)], CLASSES, "title")
    legend = rows[1].legend
    assert legend is not None
    assert [(name, share and round(share, 2)) for name, share, _ in legend.entries] == [
        ("background", 0.4),
        ("cat", 0.4),
        (f"{CLASSES[4]} (predicted only)", None),
        ("not scored (hatched, faint)", 0.2),
    ]
    assert legend.entries[1].colour == tuple(palette(5)[2])
    assert legend.entries[0].colour is None
    assert not legend.names


def test_a_legend_of_very_many_classes_is_limited(tmp_path: Path, rows: list[Row]) -> None:
    target = np.zeros((20, 30), np.int32)
    every = (np.arange(600) % 171).reshape(20, 30)
    sample = Sample("row", np.zeros((20, 30, 3), np.uint8), target, {"m": every})
    prediction_sheet(tmp_path / "a.jpg", [sample], [f"the class number {i}" for i in range(171)], "t")
    legend = rows[1].legend
    assert legend is not None
    assert len(legend.entries) == 24
    assert len(legend.names) == 171 - 24


def test_images_keep_their_proportions(tmp_path: Path, rows: list[Row]) -> None:
    sizes = [(400, 100), (100, 500), (2, 500)]
    samples = [
        Sample("", np.zeros((*size, 3), np.uint8), np.zeros(size, int), {"m": np.zeros(size, int)}) for size in sizes
    ]
    prediction_sheet(tmp_path / "a.png", samples, CLASSES, "title")
    shapes = [{tile.image.shape[:2] for tile in row.tiles} for row in rows[1:]]
    assert shapes == [{(420, 105)}, {(84, 420)}, {(32, 420)}]
