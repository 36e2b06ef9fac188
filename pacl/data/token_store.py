"""The frozen patch tokens of every picture, computed once: epochs then train from them without the image tower.

A store is a folder. ``stamp.json`` says what the tokens depend on; ``00000.bin``, ``00001.bin``, ... hold those of
consecutive pictures, [n, P, W] as they lie in memory; ``00000.json``, written after its shard, finishes it: its
checksum, and the pictures that could not be read. A killed build keeps its finished shards and goes on after them.

Shapes: b pictures asked for, n of a shard, P patches, W token width.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from pacl.data.token_stamp import FLAG, Stamp
from pacl.errors import UserError
from pacl.files import atomic_write, make_folder

Encode = Callable[[Sequence[int]], Iterable[tuple[Tensor, Mapping[int, str]]]]
"""Pictures -> their tokens, batch by batch in the order asked for, in batches of any size: the rows [b, P, W] of those
that can be read, and for each other picture of the batch its number and what is wrong with it. It is called once, so
that a DataLoader behind it reads ahead."""

STAMP = "stamp.json"


class TokenStore:
    """Tokens of pictures by number. It is cheap to fork and to pickle: a folder's shards are mapped, not read.

    `build`, `open` and `in_memory` make one.

    Attributes:
        stamp: what the tokens depend on.
        missing: the pictures that could not be read, and why; their rows are 0.
    """

    def __init__(self, stamp: Stamp, shards: list[Tensor], missing: dict[int, str], folder: Path | None = None) -> None:
        self.stamp, self.missing = stamp, missing
        self._shards, self._folder = shards, folder

    def __len__(self) -> int:
        return self.stamp.pictures

    @property
    def shape(self) -> tuple[int, int]:
        """(P, W)"""
        return self.stamp.patches, self.stamp.width

    def rows(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """The tokens of some pictures, in any order: a copy, [b, P, W] in the stored dtype.

        Raises:
            IndexError: no such picture.
        """
        size, rows = self.stamp.shard_size, []
        for index in map(int, indices):
            if not 0 <= index < len(self):
                raise IndexError(f"picture {index} of {len(self)}")
            rows.append(self._shards[index // size][index % size])
        return torch.stack(rows) if rows else torch.empty(0, *self.shape, dtype=self.stamp.torch_dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_shards": None} if self._folder else vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._folder:
            self._shards = [_mapped(self._folder, self.stamp, shard) for shard in range(self.stamp.shards)]

    @classmethod
    def open(cls, folder: str | Path, stamp: Stamp, *, verify: bool = False) -> TokenStore:
        """Open a complete store.

        Args:
            folder: where it is.
            stamp: what its tokens have to be made from.
            verify: compare every shard with its checksum, at the speed of the disk. Otherwise all sizes and the first
                shard, which finds what commonly happens (a copy cut short, another machine's byte order) at once.

        Raises:
            UserError: no store, a stale one, an incomplete one, a damaged one.
        """
        folder = Path(folder)
        if not (folder / STAMP).exists():
            raise UserError(f"{FLAG} {folder}: holds no tokens ({STAMP} is not there)")
        if unfinished := _unfinished(folder, stamp):
            done = stamp.shards - len(unfinished)
            raise UserError(
                f"{FLAG} {folder}: incomplete, {done} of {stamp.shards} shards are there; "
                "the command that began it goes on with it"
            )
        shards, missing = [], {}
        for shard in range(stamp.shards):
            about = _read_json(_path(folder, shard, ".json"))
            shards.append(_mapped(folder, stamp, shard))
            if (verify or shard == 0) and _checksum(shards[-1]) != about.get("sha256"):
                raise _damaged(_path(folder, shard, ".bin"), "its checksum differs")
            missing.update({int(index): str(reason) for index, reason in about.get("missing", {}).items()})
        return cls(stamp, shards, missing, folder)

    @classmethod
    def build(cls, folder: str | Path, stamp: Stamp, encode: Encode) -> TokenStore:
        """Compute what is not there yet, and open the store; a complete one is opened at once.

        Args:
            folder: a new one, or that of a build to go on with.
            stamp: what the tokens are made from.
            encode: makes them.

        Raises:
            UserError: what `open` says; no room on the disk; another process is at it; tokens that are not finite.
        """
        if (Path(folder) / STAMP).exists() and not _unfinished(Path(folder), stamp):
            return cls.open(folder, stamp)  # needs no lock: the folder may be a shared one, for reading only
        folder = make_folder(folder, FLAG[2:])
        with _locked(folder):
            if not (folder / STAMP).exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
                raise UserError(f"{FLAG} {folder}: is not empty and holds no tokens; choose a new folder")
            for left_by_a_killed_one in folder.glob(".*-*.[bj]*"):
                left_by_a_killed_one.unlink()
            todo = _unfinished(folder, stamp)
            need = sum(len(stamp.shard(k)) for k in todo) * stamp.picture_bytes
            free = shutil.disk_usage(folder).free
            if need > free:
                raise UserError(
                    f"{FLAG} {folder}: needs {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
                    "choose another folder, or no cache"
                )
            _write_json(folder / STAMP, stamp.to_json())

            def write(shard: int, tokens: Tensor, missing: dict[int, str]) -> None:
                _path(folder, shard, ".json").unlink(missing_ok=True)  # of a shard that was damaged and deleted
                with atomic_write(_path(folder, shard, ".bin")) as aside, aside.open("wb") as file:
                    file.write(_bytes(tokens))
                    file.flush()
                    os.fsync(file.fileno())  # some file systems tell only now that they are full
                _write_json(_path(folder, shard, ".json"), {"sha256": _checksum(tokens), "missing": missing})

            _encode(stamp, todo, encode, write)
        return cls.open(folder, stamp)

    @classmethod
    def in_memory(cls, stamp: Stamp, encode: Encode) -> TokenStore:
        """The same without a folder."""
        shards: list[Tensor] = []
        missing: dict[int, str] = {}

        def keep(_: int, tokens: Tensor, unreadable: dict[int, str]) -> None:
            shards.append(tokens)
            missing.update(unreadable)

        _encode(stamp, range(stamp.shards), encode, keep)
        return cls(stamp, shards, missing)


def _encode(
    stamp: Stamp, shards: Sequence[int], encode: Encode, keep: Callable[[int, Tensor, dict[int, str]], None]
) -> None:
    """Compute some shards, in order, and hand each over when its last picture is done."""
    pictures = [stamp.shard(k) for k in shards]
    wanted = [index for own in pictures for index in own]
    rows = _rows(stamp, wanted, encode) if wanted else iter(())
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("frozen tokens", total=stamp.pictures, completed=stamp.pictures - len(wanted))
        for shard, own in zip(shards, pictures, strict=True):
            tokens = torch.zeros(len(own), stamp.patches, stamp.width, dtype=stamp.torch_dtype)  # [n, P, W]
            missing: dict[int, str] = {}
            for to, index, (row, reason) in zip(tokens, own, rows):  # noqa: B905  (rows go on with the next shard)
                if row is None:
                    missing[index] = reason
                else:
                    to.copy_(row)
                progress.advance(task)
            keep(shard, tokens, missing)


def _rows(stamp: Stamp, wanted: Sequence[int], encode: Encode) -> Iterator[tuple[Tensor | None, str]]:
    """Of each picture its checked tokens [P, W], or None and why there are none."""
    left = iter(wanted)
    for given, reasons in encode(wanted):
        batch = list(islice(left, len(given) + len(reasons)))
        readable = [index for index in batch if index not in reasons]
        if given.shape != (len(readable), stamp.patches, stamp.width):
            raise ValueError(
                f"tokens {list(given.shape)} for {len(readable)} readable pictures of {stamp.patches} patches "
                f"and width {stamp.width}"
            )
        tokens = given.to("cpu", stamp.torch_dtype)
        if readable and not torch.stack(tokens.aminmax()).isfinite().all():  # NaN comes out of it too
            bad = next(i for i, row in enumerate(tokens) if not row.isfinite().all())
            if given[bad].isfinite().all():
                top = given[bad].abs().max()
                raise UserError(f"{FLAG}: tokens up to {top:.3g} overflow {stamp.dtype}; keep them in bfloat16")
            raise UserError(f"{FLAG}: tokens of picture {readable[bad]} are not finite; is the backbone damaged?")
        found = iter(tokens)
        yield from ((None, reasons[index]) if index in reasons else (next(found), "") for index in batch)
    if any(True for _ in left):
        raise ValueError("pictures are left that no batch holds")


def _unfinished(folder: Path, stamp: Stamp) -> list[int]:
    """The shards that are not there yet.

    Raises:
        UserError: the folder's stamp is another one.
    """
    shards = range(stamp.shards)
    if not (folder / STAMP).exists():
        return list(shards)
    found, wanted = _read_json(folder / STAMP), stamp.to_json()
    found.setdefault("layers", [])  # stores from before there were layers have none
    for field in fields(stamp):
        if found.get(field.name) != wanted[field.name]:
            raise UserError(
                f"{FLAG} {folder}: its tokens have {field.name} {found.get(field.name)!r}, this run needs "
                f"{wanted[field.name]!r}; choose another folder, or delete this one to compute them anew"
            )
    return [shard for shard in shards if not all(_path(folder, shard, end).exists() for end in (".bin", ".json"))]


def _path(folder: Path, shard: int, suffix: str) -> Path:
    return folder / f"{shard:05d}{suffix}"


def _mapped(folder: Path, stamp: Stamp, shard: int) -> Tensor:
    """A shard [n, P, W] as it lies on the disk: a page is read when its row is."""
    path, shape = _path(folder, shard, ".bin"), (len(stamp.shard(shard)), stamp.patches, stamp.width)
    wanted = shape[0] * stamp.picture_bytes
    try:
        if (size := path.stat().st_size) != wanted:
            raise _damaged(path, f"{size} bytes instead of {wanted}")
        return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=stamp.torch_dtype).view(shape)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _bytes(tokens: Tensor) -> memoryview:
    return tokens.view(torch.uint8).numpy().data


def _checksum(tokens: Tensor) -> str:
    return hashlib.sha256(_bytes(tokens)).hexdigest()


def _damaged(path: Path, what: str) -> UserError:
    lost = path.parent if path.name == STAMP else path
    return UserError(f"{path}: damaged ({what}); delete {lost}, and the next run computes it again")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=1), encoding="utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from building here; the lock goes with the process, however it ends."""
    try:
        file = (folder / ".lock").open("a+")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (folder / ".lock").read_text() or "another process"
        raise UserError(f"{FLAG} {folder}: {holder} is filling it; wait for that, or choose another folder") from None
    except OSError as error:
        raise UserError(f"{FLAG} {folder}: cannot be locked ({error.strerror}); choose another folder") from None
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: workers forked meanwhile hold the file too
