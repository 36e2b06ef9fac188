"""Damaged stores, and folders that hold none, are one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from pacl.data.token_store import TokenStore
from pacl.errors import UserError
from tests.data.token_store.stores import KEPT, STAMP, Encoder, NotAsked, contents


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    os.truncate(tmp_path / "00002.bin", 1000)
    with pytest.raises(UserError, match=r"00002\.bin: .*1000 .*1056.*00002\.bin"):
        TokenStore.open(tmp_path, STAMP)
    (tmp_path / "00002.bin").unlink()  # as the message says
    encoder = Encoder()
    assert torch.equal(TokenStore.build(tmp_path, STAMP, encoder).rows(range(150)), KEPT)
    assert encoder.encoded == list(range(128, 150))


@pytest.mark.parametrize("shard", [0, 1])
def test_a_flipped_bit_is_found(tmp_path: Path, shard: int) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    path = tmp_path / f"0000{shard}.bin"
    damaged = bytearray(path.read_bytes())
    damaged[77] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=rf"0000{shard}\.bin: .*checksum"):
        TokenStore.open(tmp_path, STAMP, verify=shard > 0)


@pytest.mark.parametrize("name", ["stamp.json", "00001.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 3000, "9" * 5000])
def test_damaged_descriptions_are_one_line(tmp_path: Path, name: str, text: str) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=rf"{name}: .*{tmp_path}"):
        TokenStore.open(tmp_path, STAMP)


@pytest.mark.parametrize("missing", ['["x"]', '{"x": "gone"}', "null"])
def test_damaged_reasons_are_one_line(missing: str, tmp_path: Path) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    about = json.loads((tmp_path / "00001.json").read_text()) | {"missing": json.loads(missing)}
    (tmp_path / "00001.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"00001\.json: damaged"):
        TokenStore.open(tmp_path, STAMP)


def test_folders_that_hold_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stamp\.json"):
        TokenStore.open(tmp_path / "nowhere", STAMP)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty"):
        TokenStore.build(tmp_path, STAMP, NotAsked())
    with pytest.raises(UserError, match=r"thesis\.tex"):
        TokenStore.build(tmp_path / "thesis.tex", STAMP, NotAsked())
    assert contents(tmp_path) == {"thesis.tex": b""}
