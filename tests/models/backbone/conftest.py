"""A sentence encoder that tests of backbones share."""

from __future__ import annotations

import pytest

from tests.tiny import save_tiny_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers")
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "st")
