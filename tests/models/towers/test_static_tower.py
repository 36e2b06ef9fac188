"""Static text towers, on a handful of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from pacl.errors import ArgumentError
from pacl.models.distillation import UNKNOWN, quantize, static_tokenizer
from pacl.models.towers.base import weights_checksum
from pacl.models.towers.registry import load_text_tower
from pacl.models.towers.static_tower import StaticTower, load_static_tower, words_folder

TOKENS = [UNKNOWN, "a", "red", "dog", "lady", "##bug", "##s", "ladybug", "."]


def save_tower(folder: Path, tokens: list[str] = TOKENS, **tensors: Tensor) -> str:
    """Write a folder and return its name; by default vectors are one-hot."""
    folder.mkdir(parents=True, exist_ok=True)
    static_tokenizer(tokens, UNKNOWN).save(str(folder / "tokenizer.json"))
    save_file(tensors or {"embeddings": torch.eye(len(tokens))}, folder / "model.safetensors")
    return f"static:{folder}"


def counts(*tokens: str) -> Tensor:
    """How often each token comes, as a share: the embedding of one-hot vectors."""
    rows = torch.tensor([TOKENS.index(token) for token in tokens])
    return torch.bincount(rows, minlength=len(TOKENS)) / len(tokens)


@pytest.fixture
def tower(tmp_path: Path) -> StaticTower:
    return load_static_tower(save_tower(tmp_path / "tower"))[0]


@torch.no_grad()
def test_a_text_is_the_mean_of_its_tokens(tower: StaticTower) -> None:
    found = tower.encode(["A red, dog.", "a a dog"])
    torch.testing.assert_close(found, torch.stack([counts("a", "red", "dog", "."), counts("a", "a", "dog")]))
    assert (tower.dim, found.dtype) == (len(TOKENS), torch.float32)


@torch.no_grad()
def test_a_whole_word_wins_over_its_pieces(tower: StaticTower) -> None:
    found = tower.encode(["ladybug", "ladybugs", "ladys"])
    expected = [counts("ladybug"), counts("ladybug", "##s"), counts("lady", "##s")]
    torch.testing.assert_close(found, torch.stack(expected))


@torch.no_grad()
@pytest.mark.parametrize("text", ["", "  ", "zzz", "狗"])
def test_a_text_of_unknown_signs_is_zero(tower: StaticTower, text: str) -> None:
    found = tower.encode(["dog", text, "zzz dog"])
    assert torch.equal(found, torch.stack([counts("dog"), torch.zeros(len(TOKENS)), counts("dog")]))
    assert tower.count_tokens(text) == 0
    assert F.normalize(found, dim=-1).isfinite().all()


@torch.no_grad()
def test_only_the_context_is_read(tower: StaticTower) -> None:
    text = "dog " * tower.context_length
    assert torch.equal(tower.encode([text + "red"]), tower.encode([text]))
    assert tower.count_tokens(text + "red") == tower.context_length + 1


@torch.no_grad()
def test_no_texts(tower: StaticTower) -> None:
    assert tower.encode([]).shape == (0, tower.dim)


@torch.no_grad()
def test_int8_rows_come_back(tmp_path: Path) -> None:
    vectors = torch.randn(len(TOKENS), 16, generator=torch.Generator().manual_seed(0))
    vectors *= torch.arange(len(TOKENS))[:, None]  # the first row is zero
    codes, scales = quantize(vectors)
    assert (codes.dtype, scales.dtype) == (torch.int8, torch.float16)
    assert codes[1:].abs().amax(1).ge(126).all()
    name = save_tower(tmp_path / "int8", embeddings=codes, weights=scales)
    found = load_static_tower(name)[0].embeddings.weight
    assert ((found - vectors).abs().amax(1) <= 0.51 * scales.float()).all()
    assert F.cosine_similarity(found, vectors)[1:].min() > 0.9995


@torch.no_grad()
def test_mapped_and_weighted_rows(tmp_path: Path) -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).half()
    mapping = torch.tensor([0, 1, 1, 0, 0, 0, 0, 0, 0])
    weights = torch.arange(9.0)
    name = save_tower(tmp_path / "mapped", embeddings=rows, mapping=mapping, weights=weights)
    found = load_static_tower(name)[0].encode(["a", "red", "dog"])
    assert found.tolist() == [[0, 1], [0, 2], [3, 0]]


def test_the_checksum_depends_on_vectors_and_tokens(tmp_path: Path) -> None:
    def checksum(folder: str, tokens: list[str] = TOKENS, **tensors: Tensor) -> str:
        return weights_checksum(load_static_tower(save_tower(tmp_path / folder, tokens, **tensors))[0].weights())

    plain = checksum("one")
    assert checksum("two") == plain
    assert checksum("other-vectors", embeddings=2 * torch.eye(len(TOKENS))) != plain
    assert checksum("other-tokens", [*TOKENS[:3], "cat", *TOKENS[4:]]) != plain


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save_tower(tmp_path / "tower")
    monkeypatch.chdir(tmp_path)
    tower, found = load_text_tower("static:./tower")
    assert (found, type(tower)) == (name, StaticTower)


def test_the_tokenizer_of_a_folder_neither_pads_nor_cuts(tmp_path: Path) -> None:
    name = save_tower(tmp_path / "tower")
    path = tmp_path / "tower" / "tokenizer.json"
    tokenizer = static_tokenizer(TOKENS, UNKNOWN)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=2, pad_id=3)
    tokenizer.save(str(path))
    tower = load_static_tower(name)[0]
    assert [tower.count_tokens(text) for text in ("a", "a red dog .")] == [1, 4]


def test_the_one_in_the_package_knows_what_is_alike() -> None:
    tower, name = load_static_tower("static:words")
    assert name == "static:words"
    with torch.no_grad():
        dog, puppy, dalmatian, car = F.normalize(tower.encode(["dog", "puppy", "dalmatian", "car"]), dim=-1)
        a_dog, a_puppy, a_car = F.normalize(tower.encode(["a dog", "a puppy", "a car"]), dim=-1)
    assert dog @ puppy > 0.6
    assert dog @ car < 0.4
    assert dalmatian @ dog > dalmatian @ car + 0.2
    assert a_dog @ a_puppy > a_dog @ a_car + 0.2
    assert tower.count_tokens("dalmatian") == 1
    assert sum(path.stat().st_size for path in words_folder().iterdir()) < 12e6


@pytest.mark.parametrize("name", ["static:nothing", "static:", "static:/nowhere", "static:./nowhere"])
def test_names_that_do_not_work(name: str) -> None:
    with pytest.raises(ArgumentError) as error:
        load_static_tower(name)
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", None),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "[]"),
        ("model.safetensors", None),
        ("model.safetensors", "short"),
        ("model.safetensors", {"vectors": torch.eye(len(TOKENS))}),
        ("model.safetensors", {"embeddings": torch.eye(len(TOKENS) - 1)}),
        ("model.safetensors", {"embeddings": torch.ones(len(TOKENS))}),
        ("model.safetensors", {"embeddings": torch.eye(len(TOKENS)), "weights": torch.ones(1)}),
        ("model.safetensors", {"embeddings": torch.eye(2), "mapping": torch.full((len(TOKENS),), 2)}),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path: Path, file: str, content: Any) -> None:
    name = save_tower(tmp_path / "tower")
    path = tmp_path / "tower" / file
    path.unlink()
    if isinstance(content, dict):
        save_file(content, path)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(ArgumentError) as error:
        load_static_tower(name)
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)


def test_a_unigram_model_names_its_unknown_by_id(tmp_path: Path) -> None:
    folder = tmp_path / "unigram"
    name = save_tower(folder, ["<unk>", "▁dog"])
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁dog", -1.0]]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    tower = load_static_tower(name)[0]
    assert [tower.count_tokens(text) for text in ("dog", "zz", "dog dog")] == [1, 0, 2]


@pytest.mark.parametrize(
    ("vocabulary", "unknown"), [({"a": 0, "dog": 1}, "[UNK]"), ({"[UNK]": 0, "dog": 7}, "[UNK]")], ids=str
)
def test_a_vocabulary_that_no_text_fits_is_refused(tmp_path: Path, vocabulary: dict[str, int], unknown: str) -> None:
    name = save_tower(tmp_path / "tower", [unknown, "dog"])
    Tokenizer(WordLevel(vocabulary, unk_token=unknown)).save(str(tmp_path / "tower/tokenizer.json"))
    with pytest.raises(ArgumentError):
        load_static_tower(name)
