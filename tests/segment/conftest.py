"""The command on a random model, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacl.segment import main
from tests.commands import Run, runner


@pytest.fixture(autouse=True)
def here(photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own that holds photo.png.

    The random model gives nearly all pixels to one label; the note about it has a test of its own.
    """
    monkeypatch.setattr("pacl.segmentation.image_doubts.SWALLOWED", 1.0)
    monkeypatch.chdir(photo.parent)
    return photo.parent


@pytest.fixture
def run(tiny_clip: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the tiny CLIP: (exit code, standard output, standard error)."""
    return runner("pacl segment", main, tiny_clip, capsys)
