"""One COCO data set for a run, read back by pycocotools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from pacl.errors import ArgumentError
from tests.results.drawn import LABELS, two_labels, write_run


def test_pycocotools_reads_the_masks_that_were_written(tmp_path: Path) -> None:
    index = two_labels()
    data = COCO(write_run(tmp_path, "coco", "a.jpg", "sub/b.jpg"))
    assert [image["file_name"] for image in data.loadImgs(data.getImgIds())] == ["a.jpg", "sub/b.jpg"]
    assert [each["name"] for each in data.loadCats(data.getCatIds())] == list(LABELS)
    assert len(data.anns) == 4
    for each in data.loadAnns(data.getAnnIds(imgIds=[2])):
        mask = index == each["category_id"]
        assert each["area"] == mask.sum()
        y, x = np.nonzero(mask)
        assert each["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert (data.annToMask(each) != mask).sum() <= 4  # polygons simplify corners by half a pixel


def counted_from_0(data: dict[str, Any]) -> None:
    for each in data["categories"]:
        each["id"] -= 1
    for each in data["annotations"]:
        each["category_id"] -= 1


def of_no_category(data: dict[str, Any]) -> None:
    data["annotations"][0]["category_id"] = len(LABELS) + 1


def with_an_image_twice(data: dict[str, Any]) -> None:
    data["images"].append({**data["images"][0], "id": 7})


@pytest.mark.parametrize("change", [counted_from_0, of_no_category, with_an_image_twice])
def test_what_another_program_has_changed_is_not_completed(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    """Annotations would mean other labels, or be lost."""
    path = write_run(tmp_path / "out", "coco", "a.jpg")
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    with pytest.raises(ArgumentError) as refused:
        write_run(tmp_path / "out", "coco", "b.jpg")
    assert refused.value.argument == "out"
    assert path.read_bytes() == before
