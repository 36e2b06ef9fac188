"""Files of data sets: their digests, which of them are equal, and names that are no UTF-8."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pacl.errors import unreadable
from pacl.files import file_sha256


def files_digest(files: Iterable[Path]) -> str:
    """SHA-256 of the paths, sizes and modification times of files; their names need not be UTF-8."""
    digest, folders = hashlib.sha256(), dict[Path, Path]()
    for path in files:
        if path.parent not in folders:
            folders[path.parent] = path.parent.resolve()
        try:
            state = path.stat()
            known = f"{state.st_size}\0{state.st_mtime_ns}"
        except OSError:  # reported when the file is read
            known = "-"
        digest.update(os.fsencode(f"{folders[path.parent] / path.name}\0{known}\0"))
    return digest.hexdigest()


def file_digests(**given: str | Path | None) -> dict[str, str]:
    """For a protocol: ``NAME_sha256``, of the content, for each of these settings that is a file."""
    files = {name: Path(value) for name, value in given.items() if value is not None and Path(value).is_file()}
    return {f"{name}_sha256": _content(path)[:16] for name, path in files.items()}


def own_data(name: str, digest: str) -> str:
    """How results name a user's own data: a name, such as the folder's, and the first digits of a digest."""
    return f"{os.fsencode(name).decode('utf-8', 'replace')} {digest[:8]}"


def find_equal(files: Sequence[str | Path]) -> list[list[int]]:
    """Groups of files that have the same bytes, by their indices.

    Only files of the same size are read; missing ones are in no group.
    """
    by_size: dict[int, list[int]] = {}
    for index, path in enumerate(map(Path, files)):
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(index)
    groups: dict[str, list[int]] = {}
    for alike in by_size.values():
        for index in alike if len(alike) > 1 else ():
            groups.setdefault(_content(Path(files[index])), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def count_equal(files: Sequence[str | Path]) -> int:
    """How many files have the bytes of another one, see `find_equal`."""
    return sum(map(len, find_equal(files)))


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_sha256(file)
    except OSError as error:
        raise unreadable(path, error) from None


def is_utf8(text: str) -> bool:
    """Whether a text, such as a file name, can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
