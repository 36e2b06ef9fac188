"""A drawn benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eval.segmentation.run.command import draw


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Seven drawn pictures in the layout of VOC 2012."""
    draw("voc20", tmp_path / "data", 7)
    return tmp_path / "data"
