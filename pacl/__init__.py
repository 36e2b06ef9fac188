"""Open-vocabulary segmentation from plain image-text pairs, on frozen CLIP encoders.

Names are imported when they are first used, so that ``import pacl`` and ``--help`` answer at once.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacl.backbone import FrozenCLIP, load_clip
    from pacl.embedder import PatchEmbedder
    from pacl.errors import UserError
    from pacl.loading import load_model
    from pacl.loss import contrastive_loss
    from pacl.model import PACL
    from pacl.prompts import Label
    from pacl.segmenter import Segmentation, Segmenter
    from pacl.settings import SegmenterSettings

_HOMES = {
    "FrozenCLIP": "backbone",
    "Label": "prompts",
    "PACL": "model",
    "PatchEmbedder": "embedder",
    "Segmentation": "segmenter",
    "Segmenter": "segmenter",
    "SegmenterSettings": "settings",
    "UserError": "errors",
    "contrastive_loss": "loss",
    "load_clip": "backbone",
    "load_model": "loading",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("pacl")
    if name in _HOMES:
        return getattr(import_module(f"pacl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pacl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
