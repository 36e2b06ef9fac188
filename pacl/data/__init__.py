"""Captioned pictures: where they come from, how they become batches, and the procedural scenes."""

from pacl.data.caption_data import CaptionData
from pacl.data.sources import Source

__all__ = ["CaptionData", "Source"]
