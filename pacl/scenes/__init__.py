"""Procedural scenes: rendered images with captions and exact masks.

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacl.scenes.data import SceneData
    from pacl.scenes.pretraining import ScenePretrainingData

_HOMES = {"SceneData": "data", "ScenePretrainingData": "pretraining"}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"pacl.scenes.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pacl.scenes' has no attribute {name!r}")
