"""Kept tokens are those that were computed, and nothing else passes for them."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pacl.data import token_stamp, token_store
from pacl.data.crop import SquareCrop
from pacl.data.pairs import FilePairs
from pacl.data.token_stamp import Stamp, source_digest
from pacl.data.token_store import TokenStore
from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write
from pacl.models.backbone import Backbone, load_backbone
from tests.models.towers.test_static_tower import TOKENS as WORDS
from tests.models.towers.test_static_tower import save_tower
from tests.tiny import save_tiny_clip

STAMP = Stamp(
    backbone="bundled",
    weights="0123456789abcdef",
    quick_gelu=False,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    dense="value",
    size=32,
    cut="centre",
    dtype="bfloat16",
    images=150,
    source="fedcba9876543210",
    patches=4,
    width=6,
)
TOKENS = torch.randn(150, 4, 6, generator=torch.Generator().manual_seed(0))
KEPT = TOKENS.bfloat16()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards: 64, 64 and 22 images."""
    monkeypatch.setattr(token_stamp, "SHARD_BYTES", 64 * STAMP.image_bytes)


class Encoder:
    """Batches of ``size`` from `TOKENS`; it notes what it is asked for."""

    def __init__(
        self, size: int = 10, unreadable: Mapping[int, str] = {}, fail_at: int | None = None, tokens: Tensor = TOKENS
    ) -> None:
        self.size, self.unreadable, self.fail_at, self.tokens = size, unreadable, fail_at, tokens
        self.encoded: list[int] = []

    def __call__(self, wanted: Sequence[int]) -> Iterator[tuple[Tensor, dict[int, str]]]:
        for start in range(0, len(wanted), self.size):
            batch = wanted[start : start + self.size]
            if self.fail_at in batch:
                raise ZeroDivisionError
            self.encoded += batch
            reasons = {i: self.unreadable[i] for i in batch if i in self.unreadable}
            yield self.tokens[[i for i in batch if i not in reasons]], reasons


class NotAsked:
    def __call__(self, wanted: Sequence[int]) -> Iterator[tuple[Tensor, dict[int, str]]]:
        raise AssertionError(f"encodes {wanted} again")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


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


OTHER: dict[str, Any] = {
    "version": 0,
    "backbone": "open_clip:ViT-B-16/openai",
    "weights": "0",
    "quick_gelu": True,
    "mean": (0.5, 0.5, 0.4),
    "std": (0.25, 0.25, 0.2),
    "dense": "clip",
    "layers": (0, 2),
    "size": 64,
    "cut": "pad",
    "dtype": "float16",
    "precision": "bf16",
    "images": 149,
    "source": "0",
    "patches": 3,
    "width": 8,
}


@pytest.mark.parametrize("field", [field.name for field in fields(Stamp)])
def test_a_stale_store_is_refused_by_what_differs_first(tmp_path: Path, field: str) -> None:
    TokenStore.build(tmp_path, replace(STAMP, **{field: OTHER[field]}), encoder_of(field))
    had, needs = (json.loads(json.dumps(value)) for value in (OTHER[field], getattr(STAMP, field)))
    for use in (TokenStore.open, lambda folder, stamp: TokenStore.build(folder, stamp, NotAsked())):
        with pytest.raises(ArgumentError) as refused:
            use(tmp_path, STAMP)
        assert (refused.value.argument, refused.value.value) == ("cache", tmp_path.parent)
        for shown in (
            tmp_path.name,
            f"{had!r} training images" if field == "images" else f"{field} {had!r}",
            repr(needs),
        ):
            assert shown in str(refused.value)


def test_another_number_of_held_out_images_is_called_that(tmp_path: Path) -> None:
    TokenStore.build(tmp_path / "val-0", STAMP, Encoder())
    with pytest.raises(ArgumentError, match="150 held-out images, this run has 30"):
        TokenStore.open(tmp_path / "val-0", replace(STAMP, images=30))


def test_a_store_from_before_there_were_layers_has_none(tmp_path: Path) -> None:
    TokenStore.build(tmp_path, STAMP, Encoder())
    stamp = json.loads((tmp_path / "stamp.json").read_text())
    del stamp["layers"]
    (tmp_path / "stamp.json").write_text(json.dumps(stamp))
    assert len(TokenStore.open(tmp_path, STAMP)) == 150
    with pytest.raises(UserError, match="layers"):
        TokenStore.open(tmp_path, replace(STAMP, layers=(1,)))


def encoder_of(field: str) -> Encoder:
    return Encoder(tokens=torch.zeros(150, OTHER[field] if field == "patches" else 4, 8 if field == "width" else 6))


def test_of_two_differences_the_first_is_named(tmp_path: Path) -> None:
    TokenStore.build(tmp_path, replace(STAMP, dense="clip", cut="pad", source="x"), Encoder())
    with pytest.raises(UserError, match=r"dense 'clip'.*'value'"):
        TokenStore.open(tmp_path, STAMP)


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


def test_images_that_cannot_be_read_are_rows_of_0_with_a_reason(tmp_path: Path) -> None:
    unreadable = {0: "a.jpg: no such file", 63: "b.jpg: cut short", 64: "c.jpg: not a image", 149: "d.jpg: empty"}
    unreadable |= dict.fromkeys(range(70, 80), "all of a batch")
    TokenStore.build(tmp_path, STAMP, Encoder(unreadable=unreadable))
    expected = KEPT.clone()
    expected[list(unreadable)] = 0
    for store in (TokenStore.open(tmp_path, STAMP), TokenStore.in_memory(STAMP, Encoder(unreadable=unreadable))):
        assert store.missing == unreadable
        assert torch.equal(store.rows(range(150)), expected)


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
    assert "00000.json" not in contents(tmp_path)  # it would speak for another file


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


def test_the_stamp_of_a_source(tmp_path: Path, tiny_clip: str, photo: Path) -> None:
    clip, source = load_backbone(tiny_clip), FilePairs(photo.parent, {photo.name: ["a photo"]})
    stamp = Stamp.of(clip, "value", 32, SquareCrop("pad"), source, "bfloat16")
    tokens, grid = clip.patch_tokens(torch.zeros(1, 3, 32, 32), "value")
    assert (stamp.patches, stamp.width) == (grid.patches, clip.width) == tokens.shape[1:]
    assert (stamp.backbone, stamp.cut, stamp.size, stamp.images) == (tiny_clip, "pad", 32, 1)
    assert clip.checksum().startswith(stamp.weights)
    assert stamp.layers == ()
    layered = load_backbone(tiny_clip, layers=[-2])
    assert Stamp.of(layered, "value", 32, SquareCrop("pad"), source, "bfloat16").layers == (1,)
    for crop in (SquareCrop("random"), SquareCrop(flip=0.5), SquareCrop("squash", colour=0.1)):
        with pytest.raises(UserError, match=crop.mode):
            Stamp.of(clip, "value", 32, crop, source, "bfloat16")
    with pytest.raises(ArgumentError) as error:
        Stamp.of(clip, "value", 32, SquareCrop(), source, dtype="float32")
    assert error.value.argument == "cache_dtype"


# --- Whose tokens they are ---


def tokens_of(clip: Backbone) -> Tensor:
    """Of three images, [3, P, W]."""
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return clip.patch_tokens(clip.normalize(images), "clip")[0]


def stamp_of(clip: Backbone, size: int = 32, dense: str = "clip") -> Stamp:
    return Stamp.of(clip, dense, size, SquareCrop(), Named("a", "b", "c"), "bfloat16")  # type: ignore[arg-type]


def build(folder: Path, clip: Backbone) -> TokenStore:
    return TokenStore.build(folder, stamp_of(clip), Encoder(3, tokens=tokens_of(clip)))


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Text towers that differ in kind, width and activation."""
    return [
        save_tower(tmp_path / "words"),
        save_tower(tmp_path / "others", embeddings=torch.randn(len(WORDS), 3)),
        save_tiny_clip(tmp_path / "quick", quick_gelu=True, seed=1),
    ]


@pytest.mark.parametrize("image", ["timm", "clip", "quick clip"])
def test_backbones_that_differ_in_their_texts_share_a_store(tmp_path: Path, texts: list[str], image: str) -> None:
    name = "timm:test_efficientnet/random"
    if image != "timm":
        name = save_tiny_clip(tmp_path / "image", quick_gelu=image == "quick clip")
    backbones = [load_backbone(f"{name}+{text}") for text in texts]
    assert len({clip.checksum() for clip in backbones}) == len(texts)
    kept = build(tmp_path / "store", backbones[0]).rows(range(3))
    for clip in backbones[1:]:
        store = TokenStore.build(tmp_path / "store", stamp_of(clip), NotAsked())
        assert torch.equal(store.rows(range(3)), kept)
        assert torch.equal(kept, tokens_of(clip).bfloat16())


@pytest.mark.parametrize("field", ["backbone", "weights", "quick_gelu", "dense", "layers", "size"])
def test_a_store_of_another_image_tower_is_refused(tmp_path: Path, texts: list[str], field: str) -> None:
    image = save_tiny_clip(tmp_path / "image")
    build(tmp_path / "store", load_backbone(f"{image}+{texts[0]}"))
    options: dict[str, Any] = {}
    if field == "backbone":
        image = save_tiny_clip(tmp_path / "copy")  # the weights may be the same
    elif field == "weights":
        image = save_tiny_clip(tmp_path / "image", seed=1)  # of the same name
    elif field == "quick_gelu":
        options = {"quick_gelu": True}
    elif field == "layers":
        options = {"layers": [0]}
    clip = load_backbone(f"{image}+{texts[0]}", **options)
    stamp = stamp_of(clip, 64 if field == "size" else 32, "value" if field == "dense" else "clip")
    with pytest.raises(UserError, match=f"the tokens in store have {field} "):
        TokenStore.build(tmp_path / "store", stamp, NotAsked())


class Named:
    """A source without files."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]


def test_a_source_is_known_by_names_sizes_and_content(tmp_path: Path) -> None:
    def files(folder: str, contents: Mapping[str, bytes]) -> str:
        for name, content in contents.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_bytes(content)
        return source_digest(FilePairs(tmp_path / folder, {name: ["x"] for name in contents}))

    images = {"a.jpg": b"123", "b.jpg": b"45"}
    digest = files("here", images)
    assert len(digest) == 16
    assert files("there", images) == digest  # the folder may move
    assert files("order", dict(reversed(images.items()))) != digest
    assert files("name", {"a.jpg": b"123", "c.jpg": b"45"}) != digest
    assert files("size", {"a.jpg": b"123", "b.jpg": b"456"}) != digest
    assert files("content", {"a.jpg": b"124", "b.jpg": b"45"}) != digest
    (tmp_path / "here" / "b.jpg").unlink()
    assert source_digest(FilePairs(tmp_path / "here", {name: ["x"] for name in images})) != digest

    def of_names(*names: str) -> str:
        return source_digest(Named(*names))  # type: ignore[arg-type]

    assert of_names("scene 1", "scene 2") == of_names("scene 1", "scene 2")
    assert len({of_names(), of_names("scene 1"), of_names("scene 1", "scene 2"), of_names("scene 2", "scene 1")}) == 4
