"""Output folders, atomic writes, JSON files."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pacl.errors import ArgumentError, UserError

_counter = itertools.count()


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
    temporary = path.with_name(f".{os.getpid()}-{next(_counter)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def save_json(path: str | Path, value: Any) -> None:
    """Write a JSON file in UTF-8, atomically.

    Raises:
        UserError: the file cannot be written.
        ValueError: there is a NaN or an infinity in the value.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())
