"""One COCO data set for a run: read back by pycocotools, and completed by later runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from pacl.errors import ArgumentError
from pacl.results.coco import box, rles
from pacl.results.coco_dataset import DATASET_FILE, CocoDataset


@pytest.fixture
def index() -> np.ndarray:
    """Ids [20, 30]: 1 in two parts, 2 with a hole, 3 nowhere."""
    index = np.zeros((20, 30), np.uint8)
    index[2:8, 2:8] = index[2:8, 20:28] = 1
    index[10:18, 5:15] = 2
    index[12:15, 8:12] = 0
    return index


def record(index: np.ndarray) -> dict[str, Any]:
    labels = [{"id": i, "box": box(rle), "score": 0.5} for i, rle in enumerate(rles(index, 3), start=1)]
    return {"height": index.shape[0], "width": index.shape[1], "labels": labels}


def save(out: Path, index: np.ndarray, *images: str, labels: tuple[str, ...] = ("a", "b", "c"), done: int = 9) -> COCO:
    dataset = CocoDataset(out, labels, images)
    for name in images[:done]:
        dataset.add(name, record(index), index)
    return COCO(dataset.save())


def test_pycocotools_reads_the_masks_that_were_written(tmp_path: Path, index: np.ndarray) -> None:
    data = save(tmp_path, index, "a.jpg", "sub/b.jpg")
    assert [image["file_name"] for image in data.loadImgs(data.getImgIds())] == ["a.jpg", "sub/b.jpg"]
    assert [each["name"] for each in data.loadCats(data.getCatIds())] == ["a", "b", "c"]
    assert len(data.anns) == 4
    for each in data.loadAnns(data.getAnnIds(imgIds=[2])):
        mask = index == each["category_id"]
        assert each["area"] == mask.sum()
        y, x = np.nonzero(mask)
        assert each["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert (data.annToMask(each) != mask).sum() <= 4  # polygons simplify corners by half a pixel


def test_a_run_over_the_remaining_images_completes_the_file(tmp_path: Path, index: np.ndarray) -> None:
    whole = save(tmp_path / "whole", index, "a.jpg", "b.jpg", "c.jpg").dataset
    save(tmp_path / "parts", index, "a.jpg", "b.jpg", "c.jpg", done=2)
    assert save(tmp_path / "parts", index, "b.jpg", "c.jpg").dataset == whole


def test_a_run_with_other_labels_replaces_its_images_and_never_mixes(tmp_path: Path, index: np.ndarray) -> None:
    save(tmp_path, index, "a.jpg")
    again = save(tmp_path, index, "a.jpg", "b.jpg", labels=("x", "y", "z"))
    assert [each["name"] for each in again.dataset["categories"]] == ["x", "y", "z"]
    with pytest.raises(ArgumentError) as error:
        save(tmp_path, index, "b.jpg")
    assert (error.value.argument, error.value.value) == ("out", tmp_path)


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"images": [], "categories": [], "annotations": []})])
def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / DATASET_FILE).write_text(content)
    with pytest.raises(ArgumentError):
        CocoDataset(tmp_path, ["a"], ["a.jpg"])
    assert (tmp_path / DATASET_FILE).read_text() == content
