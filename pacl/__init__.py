"""Open-vocabulary segmentation from plain image-text pairs, on frozen CLIP encoders.

Names are imported when they are first used, so that ``import pacl`` and ``--help`` answer at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacl.classification.drawing import draw_similarity
    from pacl.classification.probe import Probe, train_probe
    from pacl.classification.scorer import classify_images, score_images
    from pacl.deployment.export import ExportedModel, export_model
    from pacl.errors import (
        ArgumentError,
        FallbackModel,
        OtherDenseVariant,
        SameEmbedding,
        SimilarLabels,
        UnfamiliarWords,
        UnknownWords,
        UserError,
    )
    from pacl.images import open_image
    from pacl.index.image_index import Hit, Index
    from pacl.models.backbone import Backbone, load_backbone
    from pacl.models.catalogue import ModelName, list_models
    from pacl.models.embedder import PatchEmbedder
    from pacl.models.loading import load_model
    from pacl.models.model import PACL
    from pacl.prompts import Label
    from pacl.segmentation.embedding import ImageEmbedding
    from pacl.segmentation.result import Segmentation
    from pacl.segmentation.segmenter import Segmenter
    from pacl.segmentation.settings import SegmenterSettings
    from pacl.training.loss import contrastive_loss
    from pacl.video.segmenting import SegmentedFrame, segment_video

_HOMES = {
    "ArgumentError": "errors",
    "Backbone": "models.backbone",
    "ExportedModel": "deployment.export",
    "FallbackModel": "errors",
    "Hit": "index.image_index",
    "ImageEmbedding": "segmentation.embedding",
    "Index": "index.image_index",
    "Label": "prompts",
    "ModelName": "models.catalogue",
    "OtherDenseVariant": "errors",
    "PACL": "models.model",
    "PatchEmbedder": "models.embedder",
    "Probe": "classification.probe",
    "SameEmbedding": "errors",
    "SimilarLabels": "errors",
    "SegmentedFrame": "video.segmenting",
    "Segmentation": "segmentation.result",
    "Segmenter": "segmentation.segmenter",
    "SegmenterSettings": "segmentation.settings",
    "UnfamiliarWords": "errors",
    "UnknownWords": "errors",
    "UserError": "errors",
    "classify_images": "classification.scorer",
    "contrastive_loss": "training.loss",
    "draw_similarity": "classification.drawing",
    "export_model": "deployment.export",
    "list_models": "models.catalogue",
    "load_backbone": "models.backbone",
    "load_model": "models.loading",
    "open_image": "images",
    "score_images": "classification.scorer",
    "segment_video": "video.segmenting",
    "train_probe": "classification.probe",
}

if sys.argv[:1] == ["-m"]:  # while Python looks for the command of `python -m pacl.segment`, before it runs
    for _name in ("numpy", "torch"):
        if find_spec(_name) is None:
            print(f"pacl: error: {sys.executable} has no {_name}; activate the environment of pacl", file=sys.stderr)
            raise SystemExit(2)

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
