"""Encoders that tests of backbones share."""

from __future__ import annotations

import pytest

from pacl.models.backbone import Backbone, load_backbone
from tests.tiny import save_tiny_clip, save_tiny_encoder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers")
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "st")
