"""Images with captions, images with masks, and how they become batches.

Names are imported at their first use, because importing torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacl.data.__main__ import main
    from pacl.data.caption_data import CaptionData
    from pacl.data.masks import MaskFolder
    from pacl.data.sources import Source

_HOMES = {
    "CaptionData": "caption_data",
    "MaskFolder": "masks",
    "Source": "sources",
    "main": "__main__",  # of the verb
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"pacl.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pacl.data' has no attribute {name!r}")
