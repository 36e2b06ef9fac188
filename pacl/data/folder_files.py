"""The files below a folder, as all readers of folders list them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pacl.errors import unreadable


def files_below(folder: Path, *, skip_unreadable: bool = False) -> Iterator[str]:
    """The files in a folder and in the folders below it, as paths relative to it with "/"; hidden ones are left out.

    Links to folders are followed, but not into a folder that they lie in. The files of a folder are in the order of
    their names.

    Args:
        folder: to list.
        skip_unreadable: whether folders that cannot be listed are left out.

    Raises:
        UserError: a folder cannot be listed; not with ``skip_unreadable``.
    """
    return _walk(folder, (os.path.realpath(folder),), "", skip_unreadable)


def _walk(folder: Path, above: tuple[str, ...], prefix: str, skip_unreadable: bool) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if skip_unreadable:
            return
        raise unreadable(folder, error) from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if not os.path.isdir(entry.path):
            yield prefix + entry.name
        elif not entry.is_symlink():
            yield from _walk(Path(entry.path), above, f"{prefix}{entry.name}/", skip_unreadable)
        elif (real := os.path.realpath(entry.path)) not in above:
            yield from _walk(Path(entry.path), (*above, real), f"{prefix}{entry.name}/", skip_unreadable)
