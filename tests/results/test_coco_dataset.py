"""One COCO data set for a run, read back by pycocotools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

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
