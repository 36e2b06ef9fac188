"""A red square on grey, and a segmenter that knows the answer."""

from collections.abc import Sequence

import numpy as np

from pacl.prompts import Label
from pacl.segmentation.result import Segmentation
from pacl.segmentation.segmenter import Segmenter
from pacl.segmentation.settings import SegmenterSettings
from tests.colours import ColourModel, picture

SQUARE = picture(64, 64, (16, 48, 16, 48))


def run(
    image: np.ndarray, labels: Sequence[str | Label], model: ColourModel | None = None, **settings: object
) -> Segmentation:
    segmenter = Segmenter(model or ColourModel(), SegmenterSettings(**settings))
    segmenter.set_image(image)
    return segmenter.predict(labels)


def iou_of_red(labels: list[str], model: ColourModel, **settings: object) -> float:
    """IoU of the mask of "red" with a red box that is off the grid of 8-pixel patches."""
    box = (19, 45, 11, 38)
    truth = np.zeros((64, 64), bool)
    truth[box[0] : box[1], box[2] : box[3]] = True
    mask = run(picture(64, 64, box), labels, model, **settings).mask("red")
    return float((mask & truth).sum() / (mask | truth).sum())
