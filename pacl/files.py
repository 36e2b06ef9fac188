"""Output folders, atomic writes, JSON files."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pacl.errors import ArgumentError, UserError

_counter = itertools.count()
_group: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("group", default=None)
"""In a `write_together`: the temporary files that are complete, and their paths."""


def make_folder(folder: str | Path, argument: str = "out") -> Path:
    """Make an output folder, with its parents, and check that files can be written to it.

    Args:
        folder: may exist already.
        argument: the caller's name for it, in the error.

    Raises:
        ArgumentError: it is a file, or cannot be made or written to.
    """
    folder = Path(folder)
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise ArgumentError(argument, folder, "is a file; choose a folder") from None
    except OSError as error:
        raise ArgumentError(argument, folder, f"cannot write there ({error.strerror}); choose another folder") from None
    return folder


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block succeeds, the file there is renamed to ``path``.

    The temporary file has the same suffix. If the block fails, it is deleted and an older file at ``path`` is kept.
    Missing parent folders are made.

    Raises:
        UserError: any `OSError` in the block or while renaming, such as a full disk or a missing permission.
    """
    path = Path(path)
    temporary = path.parent / f".{os.getpid()}-{next(_counter)}{path.suffix}"
    group, complete = _group.get(), False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        yield temporary
        if group is None:
            os.replace(temporary, path)
        else:
            group.append((temporary, path))
        complete = True
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if not complete:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def write_together() -> Iterator[None]:
    """The files of all `atomic_write` in the block appear when it succeeds, in order; if it fails, none does.

    Files of a block within another one appear with those of the outer one.

    Raises:
        UserError: a file cannot be renamed.
    """
    if _group.get() is not None:
        yield
        return
    files: list[tuple[Path, Path]] = []
    token = _group.set(files)
    try:
        yield
        for temporary, path in files:
            try:
                os.replace(temporary, path)
            except OSError as error:
                raise _cannot_write(path, error) from error
    finally:
        _group.reset(token)
        for temporary, _ in files:
            with suppress(OSError):
                temporary.unlink()


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({error.strerror or error})")


def is_out_of_space(error: BaseException) -> bool:
    """Whether no other file can be written, either: the disk is full or read-only, or the user's share is used up."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def parse_json(text: str, *, unique_keys: bool = False) -> Any:
    """Read JSON that others wrote.

    Args:
        text: JSON.
        unique_keys: refuse objects with the same key twice, of which Python would keep the last one.

    Raises:
        ValueError: it is not JSON (`json.JSONDecodeError`), is nested too deeply, or has a key twice.
    """

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in found if keys.count(key) > 1)
            raise ValueError(f'"{twice}" is there twice')
        return found

    try:
        return json.loads(text, object_pairs_hook=unique if unique_keys else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def save_json(path: str | Path, value: Any) -> None:
    """Write a JSON file in UTF-8, atomically.

    Raises:
        UserError: the file cannot be written.
        ValueError: there is a NaN or an infinity in the value.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())
