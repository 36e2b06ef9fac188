"""Names that no scene for training shows."""

from __future__ import annotations

from pacl.scenes.captions import ALL_PAIRS, HELD_OUT, object_name

HELD_OUT_NAMES = tuple(object_name(*pair) for pair in ALL_PAIRS if pair in HELD_OUT)
