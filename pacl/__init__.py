"""Open-vocabulary segmentation from plain image-text pairs, on frozen CLIP encoders.

Names are imported when they are first used, so that ``import pacl`` and ``--help`` answer at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacl.errors import UserError
    from pacl.models.backbone import Backbone, load_backbone
    from pacl.models.embedder import PatchEmbedder
    from pacl.models.loading import load_model
    from pacl.models.model import PACL
    from pacl.prompts import Label
    from pacl.segmentation.segmenter import Segmentation, Segmenter
    from pacl.segmentation.settings import SegmenterSettings
    from pacl.training.loss import contrastive_loss

_HOMES = {
    "Backbone": "models.backbone",
    "Label": "prompts",
    "PACL": "models.model",
    "PatchEmbedder": "models.embedder",
    "Segmentation": "segmentation.segmenter",
    "Segmenter": "segmentation.segmenter",
    "SegmenterSettings": "segmentation.settings",
    "UserError": "errors",
    "contrastive_loss": "training.loss",
    "load_backbone": "models.backbone",
    "load_model": "models.loading",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("pacl")
    if name in _HOMES:
        return getattr(import_module(f"pacl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pacl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
