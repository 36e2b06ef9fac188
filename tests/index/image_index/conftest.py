"""A model, and a folder of images to index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pacl.classification.scorer import Scorer
from pacl.models.loading import load_model
from pacl.models.model import PACL
from tests.index.image_index.photos import save


@pytest.fixture(scope="module")
def model(tiny_clip: str) -> PACL:
    return load_model(tiny_clip)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, one of them in a subfolder, and one file that is no image."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for n, name in enumerate(("a.png", "b.png", "c.png", "d.png", "sub/e.png")):
        save(folder / name, n)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are encoded from now on."""
    names: list[str] = []
    embed = Scorer.embed

    def noted(self: Scorer, images: Sequence[Any], given: Sequence[str]) -> Any:
        names.extend(Path(name).name for name in given)
        return embed(self, images, given)

    monkeypatch.setattr(Scorer, "embed", noted)
    return names
