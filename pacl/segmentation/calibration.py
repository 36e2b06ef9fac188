"""Calibration: the mean score of a text over varied photos, measured once and saved with the head.

Some texts have a high cosine with almost every patch, others with none, in all photos. The mean patch vector over
varied photos, times a text, is that text's mean cosine; `pacl.segmentation.scoring.Offsets` subtracts it. The
standard deviation around the mean gives a threshold, `presence`, above which the thing counts as being in the photo.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pacl.models.card import with_calibration
from pacl.models.model import PACL
from pacl.models.precision import without_autocast
from pacl.prompts import GENERIC_CONTRAST
from pacl.segmentation.encode import encode_images
from pacl.segmentation.settings import SegmenterSettings

DEVIATIONS = 3.0
"""Standard deviations above the mean at which a text counts as present. In nine of ten
Pascal VOC photos without a thing its mask then has less than 2 % of the pixels, see
``python -m eval.segmentation.single_prompt``."""


@torch.no_grad()  # (not inference mode: the centre outlives it)
@without_autocast()
def calibrate(model: PACL, images: Iterable[np.ndarray | Tensor]) -> PACL:
    """Measure a head's `centre` and `presence` on photos, and set them; its card then says so.

    Args:
        model: the head, trained or not. It is changed.
        images: photos, each uint8 ``[H, W, 3]``. A few hundred are enough if no object is on many of them: what is
            common to the photos is calibrated away.

    Returns:
        The same model.

    Raises:
        ValueError: no photo, or all patches of all photos are equal.
    """
    settings = SegmenterSettings(scales=(1.0,))  # the training size suffices, in a fraction of the time
    count, total = 0, torch.zeros(model.config.vector_width, dtype=torch.float64)
    moments = torch.zeros(len(total), len(total), dtype=torch.float64)
    for image in images:
        vectors = encode_images([model], [image], settings)[0][0].patches.values  # [1, D, h, w]
        vectors = vectors.flatten(2)[0].T.cpu()  # [P, D]
        count, total = count + 1, total + vectors.mean(0)  # (each photo has the same weight)
        moments += vectors.T @ vectors / len(vectors)
    if not count:
        raise ValueError("no photo to calibrate with")
    centre = total / count
    covariance = moments / count - torch.outer(centre, centre)
    texts = model.encode_prompts(model.config.contrast or GENERIC_CONTRAST).cpu().double()  # [N, D]
    variance = torch.einsum("nd,de,ne->n", texts, covariance, texts).mean()
    if not variance > 1e-12:  # (rounding)
        raise ValueError("all patches of these photos are alike: nothing to calibrate with")
    model.centre = centre.float().to(model.device)
    model.config.presence = float(DEVIATIONS * variance.sqrt())
    model.card = with_calibration(model.card or model.write_card(), count, model.config.presence)
    return model
