"""Stores of three shards."""

from __future__ import annotations

import pytest

from pacl.data import token_stamp
from tests.data.token_store.stores import STAMP


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards: 64, 64 and 22 images."""
    monkeypatch.setattr(token_stamp, "SHARD_BYTES", 64 * STAMP.image_bytes)
