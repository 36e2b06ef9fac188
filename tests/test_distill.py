"""Static text towers made from a tiny random sentence encoder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pacl import distill
from pacl.errors import ArgumentError, UserError
from pacl.models import distillation
from pacl.models.towers.sentence_tower import load_sentence_tower
from pacl.models.towers.static_tower import load_static_tower

pytest.importorskip("sentence_transformers")

PIECES = ["lady", "##bug", "##s", "[unused0]", "é", "##7", ".", "h", "##at"]


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """A word of ImageNet is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "imagenet_texts", lambda: ["hat, red hat"])
        yield


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.tiny import save_tiny_encoder

    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "st", pieces=PIECES)


@pytest.fixture(scope="module")
def made(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "captions.txt").write_text("1_b7c.jpg,A ladybug\n2_b7c.jpg,the LADYBUG\n# ladybugs ladybugs\n")
    (folder / "names.txt").write_text("ladys\n")
    words = ["--words", str(folder / "captions.txt"), "--names", str(folder / "names.txt")]
    distill.main([name, "--out", str(folder / "out"), *words, "--dim", "4", "--license", "MIT"])
    return folder / "out"


def test_tokens(made: Path) -> None:
    vocabulary = json.loads((made / "tokenizer.json").read_text())["model"]["vocab"]
    pieces = ["a", "of", "dog", "cat", "red", "house", "lady", "##bug", "##s", "##7", ".", "h", "##at"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    assert tokens[: 1 + len(pieces)] == [distillation.UNKNOWN, *pieces]
    whole = tokens[1 + len(pieces) :]
    assert {"ladybug", "ladys", "hat"} <= set(whole)  # "hat" is one of ImageNet's
    assert not {"ladybugs", "dog", "jpg"} & set(whole)
    assert whole == sorted(whole)


@torch.no_grad()
def test_vectors_follow_the_recipe(name: str, made: Path) -> None:
    encoder, tower = load_sentence_tower(name)[0], load_static_tower(f"static:{made}")[0]

    def alone(*rows: int) -> Tensor:
        ids = torch.tensor([[2, *rows, 3]])  # between [CLS] and [SEP]
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return encoder.model[0](features)["token_embeddings"].mean(1)[0].double()

    vocabulary = encoder.model.tokenizer.get_vocab()
    kept = sorted(row for piece, row in vocabulary.items() if piece.isascii() and piece[0] + piece[-1] != "[]")
    pieces = torch.stack([alone(row) for row in kept])
    mean = pieces.mean(0)
    axes = torch.linalg.svd(pieces - mean, full_matrices=False)[2][:4].T
    axes = axes * torch.stack([column[column.abs().argmax()].sign() for column in axes.T])
    dog = (alone(vocabulary["dog"]) - mean) @ axes * torch.tensor(1.0 + vocabulary["dog"]).log()
    ladybug = (
        (alone(vocabulary["lady"], vocabulary["##bug"]) - mean) @ axes * torch.tensor(1.0 + 10 + len(PIECES)).log()
    )
    for text, expected in (("dog", dog), ("ladybug", ladybug), ("dog ladybug", (dog + ladybug) / 2)):
        error = (tower.encode([text])[0] - expected).abs().max()
        assert error < 0.006 * max(dog.abs().max(), ladybug.abs().max()), text  # half a step of int8, and some


def test_what_the_folder_says_of_itself(name: str, made: Path) -> None:
    config = json.loads((made / "config.json").read_text())
    tower = load_static_tower(f"static:{made}")[0]
    assert (config["source"], config["license"], config["hidden_dim"]) == (name, "MIT", 4)
    assert len(config["source_checksum"]) == 64
    assert config["pieces"] + config["words"] + 1 == len(tower.embeddings.weight)
    assert config["lowest_cosine_of_int8"] > 0.999
    assert "--words captions.txt --names names.txt" in config["command"]
    assert config["command"] in (made / "README.md").read_text()
    assert {path.name for path in made.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "tokenizer.json",
    }


def test_the_same_command_makes_the_same_files(name: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        distill.main([name, "--out", str(tmp_path / folder / "out"), "--dim", "4"])
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "one/out" / file).read_bytes() == (tmp_path / "two/out" / file).read_bytes()


def test_it_is_written_atomically(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(distillation, "card", full)
    with pytest.raises(ArgumentError) as error:
        distill.main([name, "--out", str(tmp_path / "out"), "--dim", "4"])
    assert error.value.argument == "out"
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "out")
    for words, argument in [
        ([name, "--out", str(tmp_path)], "out"),
        ([name, "--out", str(tmp_path / "latin.txt")], "out"),
        ([name, "--out", out, "--dim", "0"], "dim"),
        ([name, "--out", out, "--dim", "17"], "dim"),
        ([name, "--out", out, "--words", str(tmp_path / "nothing.txt")], "words"),
        ([name, "--out", out, "--names", str(tmp_path / "empty")], "names"),
    ]:
        with pytest.raises(ArgumentError) as error:
            distill.main(words)
        assert error.value.argument == argument
        assert not os.path.exists(out)
    for words, part in [
        (["open_clip:ViT-B-16/random", "--out", out], "open_clip:ViT-B-16/random"),
        (["st:/nowhere", "--out", out], "st:/nowhere"),
        ([name], "--out"),
        ([name, "--out", out, "--words", str(tmp_path / "latin.txt")], "latin.txt"),
    ]:
        with pytest.raises(UserError, match=part) as refused:
            distill.main(words)
        assert not isinstance(refused.value, ArgumentError)  # there is no flag --model
        assert not os.path.exists(out)
