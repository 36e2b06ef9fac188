"""The segmentation of an image as detections of supervision (https://supervision.roboflow.com)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacl.errors import UserError
from pacl.results.coco import box, rles
from pacl.results.result import Result

if TYPE_CHECKING:
    from supervision import Detections


def to_detections(found: Result) -> Detections:
    """See `pacl.segmentation.result.Segmentation.to_supervision`.

    Raises:
        UserError: supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise UserError(f'supervision cannot be imported ({error}): pip install "pacl[tools]"') from None
    boxes = {i: bounds for i, rle in enumerate(rles(found.index, len(found.labels))) if (bounds := box(rle))}
    if not boxes:
        return Detections.empty()
    present = np.array(list(boxes))
    xywh = np.array(list(boxes.values()), np.float32)  # [N, 4]
    return Detections(
        xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        mask=found.index == (present + 1)[:, None, None],
        confidence=np.array(found.scores, np.float32)[present],
        class_id=present,
        data={"class_name": np.array(found.labels)[present]},
    )
