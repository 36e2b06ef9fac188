"""The parts of a distillation: words, word pieces, and the tokenizers that it takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pacl.errors import UserError
from pacl.models import distillation
from pacl.models.towers.sentence_tower import load_sentence_tower
from tests.tiny import save_tiny_encoder

pytest.importorskip("sentence_transformers")


def test_words() -> None:
    running = ["A Café, a café; 7up x7 under_score", "under-score 3"]
    assert distillation.find_words(running) == ["a", "cafe", "score", "under"]
    assert distillation.find_words([], ["one Two"]) == ["one", "two"]


def test_names_of_image_files_are_no_words() -> None:
    """As in tables of captions: jpg would be the most frequent word."""
    names = ["train/dog_1.jpg,a cat", "b.JPG#0\ta hat.", '{"image": "in out.png", "text": "a gif. now"}']
    assert distillation.find_words([], names) == ["a", "cat", "gif", "hat", "image", "in", "now", "text"]


def test_imagenet_gives_names_and_definitions() -> None:
    texts = distillation.imagenet_texts()
    assert len(texts) > 40_000
    assert "goldfish, Carassius auratus" in texts
    assert not any("\t" in text or text.startswith("n0") for text in texts)


def test_pieces() -> None:
    vocabulary = {"##7": 3, "[PAD]": 0, "[unused7]": 1, "é": 2, "##s": 5, "[": 4}
    assert distillation.usable_pieces(vocabulary) == {"##7": 3, "[": 4, "##s": 5}


def test_other_tokenizers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, models

    tower = load_sentence_tower(save_tiny_encoder(tmp_path / "st"))[0]
    tower.model.tokenizer.backend_tokenizer.normalizer = None  # upper case is then unknown
    with pytest.raises(UserError, match="case"):
        distillation.wordpiece(tower)
    monkeypatch.setattr(type(tower.model), "tokenizer", SimpleNamespace(backend_tokenizer=Tokenizer(models.BPE())))
    with pytest.raises(UserError, match="WordPiece"):
        distillation.wordpiece(tower)
