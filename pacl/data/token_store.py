"""Storage of the frozen patch tokens of all images, in memory or in a folder.

Files of the folder: ``stamp.json``, what the tokens depend on; ``00000.bin``, ``00001.bin``, ..., the tokens of
consecutive images [n, P, W] in the byte order of the machine; ``00000.json``, ..., written after its shard is complete:
its checksum and the errors of unreadable images. An interrupted build continues after the last complete shard. Each
build tries the unreadable images again.

Shapes: b requested images, n images of a shard, P patches, W token width.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pacl.data.token_stamp import Stamp
from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, make_folder, parse_json
from pacl.locks import lock
from pacl.printing import counted

Encode = Callable[[Sequence[int]], Iterable[tuple[Tensor, Mapping[int, str]]]]
"""Encodes images, given by index. It yields batches of any size, in the given order: the tokens [b, P, W] of the
readable images, and the error message of each unreadable image of the batch by its index. It is called once for all
images, so that a DataLoader can prefetch."""

STAMP = "stamp.json"


class TokenStore:
    """Tokens of images by index; made by `build`, `open` or `in_memory`.

    The files of a folder are memory-mapped, so a store is cheap to fork and to pickle.

    Attributes:
        stamp: what the tokens depend on.
        missing: the error message of each unreadable image; its tokens are 0.
    """

    def __init__(self, stamp: Stamp, shards: list[Tensor], missing: dict[int, str], folder: Path | None = None) -> None:
        self.stamp, self.missing = stamp, missing
        self._shards, self._folder = shards, folder

    def __len__(self) -> int:
        return self.stamp.images

    @property
    def shape(self) -> tuple[int, int]:
        """(P, W)."""
        return self.stamp.patches, self.stamp.width

    def rows(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """The tokens of some images, in the given order: a copy [b, P, W], in the stored dtype.

        Raises:
            IndexError: an index is out of range.
        """
        size, rows = self.stamp.shard_size, []
        for index in map(int, indices):
            if not 0 <= index < len(self):
                raise IndexError(f"image {index} of {len(self)}")
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
            folder: of the store.
            stamp: what its tokens must depend on.
            verify: compare the checksums of all shards, which reads everything. Otherwise only the sizes of all shards
                and the checksum of the first one are checked, which finds truncated copies and another byte order.

        Raises:
            UserError: the folder has no store, or a stale, incomplete or damaged one.
        """
        folder = Path(folder)
        if not (folder / STAMP).exists():
            raise UserError(f"{folder}: has no tokens ({STAMP} is missing)")
        if unfinished := _unfinished(folder, stamp):
            done = stamp.shards - len(unfinished)
            reason = f"incomplete, {done} of {counted(stamp.shards, 'shard')}; run the same command again to complete"
            raise UserError(f"{folder}: {reason}")
        shards, missing = [], {}
        for shard in range(stamp.shards):
            about = _read_json(_path(folder, shard, ".json"))
            shards.append(_mapped(folder, stamp, shard))
            if (verify or shard == 0) and _checksum(shards[-1]) != about.get("sha256"):
                raise _damaged(_path(folder, shard, ".bin"), "its checksum differs")
            missing.update(_missing(_path(folder, shard, ".json"), about))
        return cls(stamp, shards, missing, folder)

    @classmethod
    def build(cls, folder: str | Path, stamp: Stamp, encode: Encode) -> TokenStore:
        """Compute the missing shards of a store, and open it.

        Images that could not be read are tried again. The shards of those that now can are computed again, if the
        folder can be written to and no other process is building there: a complete store is opened anyway.

        Args:
            folder: of a new store, or of an incomplete or complete one.
            stamp: what the tokens depend on.
            encode: computes them.

        Raises:
            UserError: not enough disk space, another process is building there, the folder has other files, tokens are
                not finite, or an error of `open`.

        Warns:
            UserWarning: the shards of a complete store could not be computed again.
        """
        if (Path(folder) / STAMP).exists() and not _unfinished(Path(folder), stamp):
            store = cls.open(folder, stamp)  # without a lock: the folder may be read-only
            again = sorted({index // stamp.shard_size for index in _readable(store.missing, encode)})
            if not again:
                return store
            try:
                return cls._fill(folder, stamp, encode, again)
            except UserError as error:
                warnings.warn(f"{folder}: images that can be read now are left out ({error})", stacklevel=2)
                return store
        return cls._fill(folder, stamp, encode)

    @classmethod
    def _fill(cls, folder: str | Path, stamp: Stamp, encode: Encode, again: Sequence[int] = ()) -> TokenStore:
        """Compute the missing shards of a store, or those of ``again`` if none is missing, and open it."""
        folder = make_folder(folder, "cache")
        with lock(folder / ".lock", "two trainings that fill it at once may damage it") as is_free:
            if not is_free:
                raise _unusable(folder, f"another process is building {folder.name}", "or wait")
            if not (folder / STAMP).exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
                raise UserError(f"{folder}: is not empty and has no tokens; choose a new folder as cache")
            for temporary in folder.glob(".*.[bj]*"):  # of a build that was killed
                temporary.unlink()
            todo = _unfinished(folder, stamp) or again
            need = sum(len(stamp.shard(k)) for k in todo) * stamp.image_bytes
            free = shutil.disk_usage(folder).free
            if need > free:
                space = f"needs {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
                raise _unusable(folder, f"{folder.name} {space}", "or null")
            _write_json(folder / STAMP, stamp.to_json())

            def write(shard: int, tokens: Tensor, missing: dict[int, str]) -> None:
                with atomic_write(_path(folder, shard, ".bin")) as temporary, temporary.open("wb") as file:
                    file.write(_bytes(tokens))
                    file.flush()
                    os.fsync(file.fileno())  # some file systems report a full disk only here
                    _path(folder, shard, ".json").unlink(missing_ok=True)  # it describes the former tokens
                _write_json(_path(folder, shard, ".json"), {"sha256": _checksum(tokens), "missing": missing})

            _encode(stamp, todo, encode, write)
        return cls.open(folder, stamp)

    @classmethod
    def in_memory(cls, stamp: Stamp, encode: Encode) -> TokenStore:
        """Compute a store in memory."""
        shards: list[Tensor] = []
        missing: dict[int, str] = {}

        def keep(_: int, tokens: Tensor, unreadable: dict[int, str]) -> None:
            shards.append(tokens)
            missing.update(unreadable)

        _encode(stamp, range(stamp.shards), encode, keep)
        return cls(stamp, shards, missing)


def _readable(missing: Mapping[int, str], encode: Encode) -> list[int]:
    """Those of the unreadable images of a store that can be read now."""
    if not missing:
        return []
    still = {index for _, reasons in encode(sorted(missing)) for index in reasons}
    return [index for index in missing if index not in still]


def _encode(
    stamp: Stamp, shards: Sequence[int], encode: Encode, keep: Callable[[int, Tensor, dict[int, str]], None]
) -> None:
    """Compute some shards, in order, and pass each one to ``keep`` when it is complete."""
    images = [stamp.shard(k) for k in shards]
    wanted = [index for own in images for index in own]
    rows = _rows(stamp, wanted, encode) if wanted else iter(())
    for shard, own in zip(shards, images, strict=True):
        tokens = torch.zeros(len(own), stamp.patches, stamp.width, dtype=stamp.torch_dtype)  # [n, P, W]
        missing: dict[int, str] = {}
        for to, index, (row, reason) in zip(tokens, own, rows):  # noqa: B905  (rows continues with the next shard)
            if row is None:
                missing[index] = reason
            else:
                to.copy_(row)
        keep(shard, tokens, missing)


def _rows(stamp: Stamp, wanted: Sequence[int], encode: Encode) -> Iterator[tuple[Tensor | None, str]]:
    """The checked tokens [P, W] of each image, or None and the error message."""
    left = iter(wanted)
    for given, reasons in encode(wanted):
        batch = list(islice(left, len(given) + len(reasons)))
        readable = [index for index in batch if index not in reasons]
        if given.shape != (len(readable), stamp.patches, stamp.width):
            raise ValueError(
                f"tokens {list(given.shape)} for {len(readable)} readable images of {stamp.patches} patches "
                f"and width {stamp.width}"
            )
        tokens = given.to("cpu", stamp.torch_dtype)
        if readable and not torch.stack(tokens.aminmax()).isfinite().all():  # NaN included
            bad = next(i for i, row in enumerate(tokens) if not row.isfinite().all())
            if given[bad].isfinite().all():
                top = given[bad].abs().max()
                raise ArgumentError("cache_dtype", stamp.dtype, f"tokens up to {top:.3g} overflow it; use bfloat16")
            raise UserError(f"tokens of image {readable[bad]} are not finite; is the backbone damaged?")
        found = iter(tokens)
        yield from ((None, reasons[index]) if index in reasons else (next(found), "") for index in batch)
    if any(True for _ in left):
        raise ValueError("encode returned fewer images than requested")


def _unusable(folder: Path, what: str, also: str) -> ArgumentError:
    """The error that another cache would solve; a cache is a folder of the folders of stores."""
    return ArgumentError("cache", folder.parent, f"{what}; choose another folder, {also}")


def _unfinished(folder: Path, stamp: Stamp) -> list[int]:
    """The shards that are missing.

    Raises:
        ArgumentError: the folder has another stamp.
    """
    shards = range(stamp.shards)
    if not (folder / STAMP).exists():
        return list(shards)
    found, wanted = _read_json(folder / STAMP), stamp.to_json()
    for field in fields(stamp):
        if found.get(field.name) != wanted[field.name]:
            raise _unusable(folder, _difference(folder.name, field.name, found, wanted), "or delete all of this one")
    return [shard for shard in shards if not all(_path(folder, shard, end).exists() for end in (".bin", ".json"))]


def _difference(store: str, field: str, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """In what the tokens of a store ("val-0") are not those of this run, in words for an error."""
    before, now = found.get(field), wanted[field]
    if field == "images":
        kind = "held-out" if store.startswith("val") else "training"
        return f"the tokens in {store} are of {before} {kind} images, this run has {now}"
    if field == "source":
        return f"the tokens in {store} are of other images, or of another table"
    return f"the tokens in {store} have {field} {before!r}, this run needs {now!r}"


def _path(folder: Path, shard: int, suffix: str) -> Path:
    return folder / f"{shard:05d}{suffix}"


def _mapped(folder: Path, stamp: Stamp, shard: int) -> Tensor:
    """A shard [n, P, W], memory-mapped."""
    path, shape = _path(folder, shard, ".bin"), (len(stamp.shard(shard)), stamp.patches, stamp.width)
    wanted = shape[0] * stamp.image_bytes
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
    return UserError(f"{path}: damaged ({what}); delete {lost} to compute it again")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    return content


def _missing(path: Path, about: Mapping[str, Any]) -> dict[int, str]:
    """The error message of each unreadable image of a shard."""
    try:
        return {int(index): str(reason) for index, reason in about["missing"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise _damaged(path, f"missing: {error}") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
