"""Images that this package wrote: a folder of photos may hold results of earlier runs."""

from __future__ import annotations

from pathlib import Path

from pacl.images import is_written_here
from pacl.results.formats import is_in_dataset
from pacl.results.paths import RESULT_ENDING


def is_result(path: Path) -> bool:
    """Whether an image is a result of an earlier run: by the ending of its name, and its record or its own text.

    Masks and copies of images in data sets that were written here are results, too.
    """
    if is_in_dataset(path):
        return True
    match = RESULT_ENDING.search(path.name)
    if match is None:
        return False
    if any(path.with_name(f"{path.name[: match.start()]}.{ending}").exists() for ending in ("json", "jsonl")):
        return True
    return is_written_here(path)


def is_own(path: Path) -> bool:
    """Whether an image is a result of an earlier run, or a drawing of any command, such as a contact sheet."""
    return is_result(path) or is_written_here(path)
