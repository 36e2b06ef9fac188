"""Images as a CLIP was trained on them: open_clip's own preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from pacl.models.model import PACL


def preprocessing(model: PACL) -> Callable[[Image.Image], Tensor]:
    """open_clip's transform for the model's CLIP: resize, centre crop and normalise an image to float32 [3, S, S]."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.clip.preprocessing), is_train=False)
