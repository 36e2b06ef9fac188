"""A build that broke off, was killed or filled the disk goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from torch import Tensor

from pacl.data import token_store
from pacl.data.token_store import TokenStore
from pacl.errors import UserError
from pacl.files import atomic_write
from tests.data.token_store.stores import STAMP, Encoder, NotAsked, contents


@pytest.mark.parametrize("fail_at", [0, 63, 64, 100, 149])
def test_a_build_that_broke_off_goes_on(tmp_path: Path, fail_at: int) -> None:
    TokenStore.build(tmp_path / "whole", STAMP, Encoder(unreadable={7: "torn", 80: "gone"}))
    first = Encoder(unreadable={7: "torn", 80: "gone"}, fail_at=fail_at)
    with pytest.raises(ZeroDivisionError):
        TokenStore.build(tmp_path / "parts", STAMP, first)
    done = len(first.encoded) // 64  # shards
    with pytest.raises(UserError, match=rf"{done} of 3 shards"):
        TokenStore.open(tmp_path / "parts", STAMP)
    second = Encoder(unreadable={7: "torn", 80: "gone"})
    store = TokenStore.build(tmp_path / "parts", STAMP, second)
    assert second.encoded == list(range(64 * done, 150))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert store.missing == {7: "torn", 80: "gone"}


def build_up_to(folder: Path, name: str, reached: Connection) -> None:
    """Build, and stay for ever where that file is half written."""

    @contextmanager
    def held(path: Path) -> Iterator[Path]:
        with atomic_write(path) as aside:
            if path.name == name:
                aside.write_text("half")
                reached.send(os.getpid())
                time.sleep(60)
            yield aside

    token_store.atomic_write = held  # type: ignore[assignment]
    TokenStore.build(folder, STAMP, Encoder())


@pytest.mark.parametrize("killed_at", ["00001.bin", "00001.json"])
def test_a_killed_build_goes_on_and_holds_no_lock(tmp_path: Path, killed_at: str) -> None:
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe()
    process = forking.Process(target=build_up_to, args=(folder, killed_at, there))
    process.start()
    try:
        assert here.poll(30)
        here.recv()
        with pytest.raises(UserError, match="another process"):
            TokenStore.build(folder, STAMP, NotAsked())
    finally:
        process.kill()
        process.join()
    assert [path for path in folder.glob(".*") if path.read_bytes() == b"half"]
    encoder = Encoder()
    TokenStore.build(folder, STAMP, encoder)
    TokenStore.build(whole, STAMP, Encoder())
    assert encoder.encoded == list(range(64, 150))
    assert contents(folder) == contents(whole)  # nothing half-written is left either


def test_workers_that_outlive_a_build_hold_no_lock(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))

    class WithWorker(Encoder):
        def __call__(self, wanted: Sequence[int]) -> Iterator[tuple[Tensor, dict[int, str]]]:
            worker.start()
            yield from super().__call__(wanted)

    try:
        with pytest.raises(ZeroDivisionError):
            TokenStore.build(tmp_path, STAMP, WithWorker(fail_at=100))
        assert len(TokenStore.build(tmp_path, STAMP, Encoder())) == 150
        assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()


def test_too_small_a_disk_is_known_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12_000_000_000))
    large = replace(STAMP, images=118_000, patches=196, width=768)
    with pytest.raises(UserError, match=r"35\.5 GB.* 12\.0 GB"):
        TokenStore.build(tmp_path, large, NotAsked())
    assert contents(tmp_path) == {}


def test_a_disk_that_fills_up_leaves_whole_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"00001\.bin: .*No space left on device"):
        TokenStore.build(tmp_path, STAMP, Encoder())
    assert set(contents(tmp_path)) == {"stamp.json", "00000.bin", "00000.json"}

    TokenStore.build(tmp_path, STAMP, Encoder())
    (tmp_path / "00000.bin").unlink()  # a damaged one
    calls = 1
    with pytest.raises(UserError, match=r"00000\.bin"):
        TokenStore.build(tmp_path, STAMP, Encoder())
    with pytest.raises(UserError, match="2 of 3 shards"):
        TokenStore.open(tmp_path, STAMP)
