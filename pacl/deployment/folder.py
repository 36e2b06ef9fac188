"""The folder of an export: its files, and who writes there. It imports no PyTorch, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pacl.deployment.formats import FORMATS
from pacl.errors import ArgumentError, first_few
from pacl.files import make_folder, parse_json
from pacl.locks import lock
from pacl.results.kinds import EXPORT, check_kind, find_results

NAME = "pacl-export"
DESCRIPTION, CLASSES = "model.json", "classes.npy"
IMAGE, TEXT = "image", "text"
RESULTS = (DESCRIPTION, CLASSES, *(f"{part}{form.suffix}" for part in (IMAGE, TEXT) for form in FORMATS.values()))
LOCK = ".lock"


@contextmanager
def owned(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Hold an output folder's lock: no other export writes there, and none that is there is lost unasked.

    Raises:
        ArgumentError: ``out``: it cannot be written to, or as `check_unused`.
    """
    made = not folder.exists()
    place = make_folder(folder)
    with lock(place / LOCK, "start no second export there") as is_ours:
        if not is_ours:
            raise ArgumentError("out", folder, "another export writes there now; choose another folder")
        try:
            check_unused(folder, overwrite)
            yield place
        finally:
            if made and {path.name for path in place.iterdir()} <= {LOCK}:
                with suppress(OSError):  # while the lock is held, which a removed file keeps from others
                    (place / LOCK).unlink()
                    place.rmdir()


def check_unused(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds an export that is not to be replaced, results of another kind, or others' files.

    Args:
        folder: need not exist.
        overwrite: whether an export may be replaced.

    Raises:
        ArgumentError: ``out``: it holds them.
    """
    check_kind(folder, EXPORT, "out")
    own = files_of_export(folder)
    if foreign := [path.name for path in find_results(folder, RESULTS) if path not in own]:
        raise ArgumentError("out", folder, f"holds {first_few(foreign)}, of no export here; choose another folder")
    if own and not overwrite:
        names = first_few([path.name for path in own], 4)
        advice = "choose another, or replace it with --overwrite (overwrite=True in Python)"
        raise ArgumentError("out", folder, f"holds an export already ({names}); {advice}")


def files_of_export(folder: Path) -> list[Path]:
    """The files of the export that a folder holds, as its description names them; none where that is of others."""
    try:
        about = parse_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if about["format"] != NAME:
            return []
        parts = [about[part] for part in (IMAGE, TEXT, "classes")]
        names = [DESCRIPTION, *(part["file"] for part in parts if part is not None)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [folder / name for name in names if name in RESULTS and (folder / name).exists()]
