"""Where results go: a folder checked before the work starts, files written whole or not at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pacl.errors import UserError

_counter = itertools.count()


def make_folder(folder: str | Path, flag: str = "--out") -> Path:
    """Make a folder for results and see, before the work starts, that files can be written to it.

    Raises:
        UserError: It cannot be made or written to; the message names the flag.
    """
    folder = Path(folder)
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise UserError(f"{flag} {folder}: is a file; choose a folder") from None
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot write there ({error.strerror}); choose another folder") from None
    return folder


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Lend a path beside ``path``, with its suffix, to write to; it takes that place when the block ends well.

    Folders above it are made. A reader never meets half a file, and an old one stays until the new one is complete.

    Raises:
        UserError: Any `OSError` of the block or of the move: a full disk, no permission, too long a name.
    """
    path = Path(path)
    aside = path.with_name(f".{os.getpid()}-{next(_counter)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            aside.unlink()
