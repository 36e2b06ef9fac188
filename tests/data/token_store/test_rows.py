"""What is kept comes back, in this process and in others; what cannot be kept is refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pacl.data import token_stamp
from pacl.data.token_store import TokenStore
from pacl.errors import ArgumentError, UserError
from pacl.locks import lock
from tests.data.token_store.stores import KEPT, STAMP, TOKENS, Encoder, NotAsked, contents


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [10, 64, 150])
def test_what_is_kept_comes_back(tmp_path: Path, dtype: torch.dtype, size: int) -> None:
    stamp = replace(STAMP, dtype=str(dtype).removeprefix("torch."))
    built = TokenStore.build(tmp_path / "new", stamp, Encoder(size))
    opened = TokenStore.open(tmp_path / "new", stamp, verify=True)
    in_memory = TokenStore.in_memory(stamp, Encoder(size))
    sizes = [path.stat().st_size for path in sorted((tmp_path / "new").glob("*.bin"))]
    assert sizes == [48 * images for images in (64, 64, 22)]
    for store in (built, opened, in_memory):
        assert (len(store), store.shape, store.missing, store.stamp) == (150, (4, 6), {}, stamp)
        assert torch.equal(store.rows(range(150)), TOKENS.to(dtype))
        shuffled = np.array([149, 0, 64, 63, 0, 128, 127])
        assert torch.equal(store.rows(shuffled), TOKENS.to(dtype)[shuffled])
        assert store.rows([]).shape == (0, 4, 6)
        assert store.rows([]).dtype == dtype
        for outside in (-1, 150):
            with pytest.raises(IndexError, match=f"{outside} of 150"):
                store.rows([0, outside])


def test_rows_are_copies(tmp_path: Path) -> None:
    store = TokenStore.build(tmp_path, STAMP, Encoder())
    store.rows([3]).zero_()
    assert torch.equal(store.rows([3]), KEPT[[3]])


def test_a_complete_store_is_opened_not_computed(tmp_path: Path) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert torch.equal(TokenStore.build(tmp_path, STAMP, NotAsked()).rows(range(150)), KEPT)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_images_that_cannot_be_read_are_rows_of_0_with_a_reason(tmp_path: Path) -> None:
    unreadable = {0: "a.jpg: no such file", 63: "b.jpg: cut short", 64: "c.jpg: not a image", 149: "d.jpg: empty"}
    unreadable |= dict.fromkeys(range(70, 80), "all of a batch")
    TokenStore.build(tmp_path, STAMP, Encoder(unreadable=unreadable))
    expected = KEPT.clone()
    expected[list(unreadable)] = 0
    for store in (TokenStore.open(tmp_path, STAMP), TokenStore.in_memory(STAMP, Encoder(unreadable=unreadable))):
        assert store.missing == unreadable
        assert torch.equal(store.rows(range(150)), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_tokens_that_are_not_finite(tmp_path: Path, value: float, dtype: str) -> None:
    tokens = TOKENS.clone()
    tokens[66, 2, 3] = value
    with pytest.raises(UserError, match="image 66"):
        TokenStore.build(tmp_path, replace(STAMP, dtype=dtype), Encoder(tokens=tokens, unreadable={61: "torn"}))


def test_float16_overflows_where_bfloat16_does_not(tmp_path: Path) -> None:
    tokens = TOKENS.clone()
    tokens[66, 2, 3] = -70_000
    with pytest.raises(ArgumentError, match=r"7e\+04") as error:
        TokenStore.in_memory(replace(STAMP, dtype="float16"), Encoder(tokens=tokens))
    assert (error.value.argument, error.value.value) == ("cache_dtype", "float16")
    assert TokenStore.in_memory(STAMP, Encoder(tokens=tokens)).rows([66]).min() == torch.tensor(-70_000).bfloat16()


def one_batch(rows: int, reasons: dict[int, str]) -> Callable[[Sequence[int]], Any]:
    return lambda wanted: [(TOKENS[:rows], reasons)]


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (one_batch(149, {}), "fewer images"),
        (one_batch(149, {151: "another's"}), "149, 4, 6.* 150 readable"),
        (lambda wanted: [(torch.zeros(150, 5, 6), {})], "150, 5, 6"),
        (lambda wanted: [(TOKENS[:100], {}), (TOKENS[:60], {})], "60, 4, 6.* 50 readable"),
    ],
)
def test_an_encoder_that_does_not_fit_is_a_bug(encode: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        TokenStore.in_memory(STAMP, encode)
    assert not isinstance(raised.value, UserError)


class Rows(Dataset[Tensor]):
    def __init__(self, store: TokenStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return 15

    def __getitem__(self, batch: int) -> Tensor:
        return self.store.rows(range(batch, 150, 15))


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_other_processes_read_the_same(tmp_path: Path, kind: str) -> None:
    store = TokenStore.build(tmp_path, STAMP, Encoder()) if kind == "folder" else TokenStore.in_memory(STAMP, Encoder())
    again = pickle.loads(pickle.dumps(store))
    assert torch.equal(again.rows(range(150)), KEPT)
    assert (again.missing, again.stamp) == (store.missing, store.stamp)
    if kind == "folder":
        assert len(pickle.dumps(store)) < 1500  # no tokens in it: they are 7,200 bytes
    loader = DataLoader(Rows(store), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for batch, rows in enumerate(loader):
        assert torch.equal(rows, KEPT[batch::15])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux which pages are in memory")
def test_only_the_rows_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stamp, "SHARD_BYTES", 256 * 2**20)
    large = replace(STAMP, images=256, patches=256, width=512)  # 64 MiB in one shard
    one = torch.ones(64, 256, 512)
    store = TokenStore.build(tmp_path, large, lambda wanted: ((one, {}) for _ in range(4)))
    store = pickle.loads(pickle.dumps(store))  # mapped anew, its checksum not read
    assert store.rows([0, 100, 255]).eq(1).all()
    resident, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(tmp_path / "00000.bin"))
        elif inside and line.startswith("Rss:"):
            resident += int(line.split()[1])
    assert 3 * 256 <= resident < 16 * 1024  # KiB: three rows of 256, and what is read ahead around them


def test_images_that_can_be_read_by_now_are_computed(tmp_path: Path) -> None:
    """With all others of their shard, as in a build of all; the rest stays."""
    unreadable = {0: "a.jpg: no such file", 64: "b.jpg: cut short", 70: "c.jpg: empty", 149: "d.jpg: empty"}
    TokenStore.build(tmp_path, STAMP, Encoder(unreadable=unreadable))
    before = contents(tmp_path)
    encoder = Encoder(unreadable=unreadable)
    assert TokenStore.build(tmp_path, STAMP, encoder).missing == unreadable
    assert encoder.encoded == list(unreadable)
    assert contents(tmp_path) == before
    del unreadable[64]
    store = TokenStore.build(tmp_path, STAMP, Encoder(unreadable=unreadable))
    assert store.missing == unreadable
    assert torch.equal(store.rows([64, 65]), KEPT[[64, 65]])
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"00001.bin", "00001.json"}


@pytest.mark.parametrize("hindrance", ["locked", "read-only", "full"])
def test_a_complete_store_that_cannot_be_changed_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hindrance: str
) -> None:
    """Though an image of it that was unreadable can be read now."""
    TokenStore.build(tmp_path, STAMP, Encoder(unreadable={64: "cut short"}))
    before = contents(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    if hindrance == "read-only":
        monkeypatch.setattr(Path, "touch", refuse)
    elif hindrance == "full":
        monkeypatch.setattr(os, "fsync", refuse)
    held = tmp_path / ".lock" if hindrance == "locked" else tmp_path.with_name("other.lock")
    with lock(held, "danger"), pytest.warns(UserWarning, match="left out"):
        store = TokenStore.build(tmp_path, STAMP, Encoder())
    assert store.missing == {64: "cut short"}
    assert torch.equal(store.rows([65]), KEPT[[65]])
    assert contents(tmp_path) == before
