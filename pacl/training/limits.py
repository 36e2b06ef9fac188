"""The least values of the settings of the modules that are trained.

Nothing here imports PyTorch, see `pacl.cli.early`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pacl.errors import ArgumentError

HEAD = {"patches": 1, "images_at_once": 1, "warmup": 0, "lr": 0, "scale_lr": 0, "weight_decay": 0, "eps": 0}
"""Of `pacl.training.module.PACLModule`."""

CLIP = {"learning_rate": 0, "weight_decay": 0, "warmup": 0}
"""Of `pacl.training.pretrain_clip.CLIPModule`."""

DUAL_ENCODER = {"image_lr": 0, "text_lr": 0, "head_lr": 0, "weight_decay": 0, "warmup": 0, "dim": 1, "size": 1}
"""Of `pacl.training.pretrain_dual.DualEncoderModule`."""


def check_least(settings: Mapping[str, Any], **least: int) -> None:
    """Refuse settings below the ``least`` of their name, and such as are not finite; None passes.

    Raises:
        ArgumentError: one is.
    """
    for name, minimum in least.items():
        value = settings[name]
        if value is not None and not minimum <= value < math.inf:
            reason = f"must be at least {minimum}" if value < minimum else "must be a finite number"
            raise ArgumentError(name, value, reason)
