"""Whether a training may go on from a checkpoint: with the same data and the same settings of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from pacl.errors import ArgumentError, UserError

PLACE = ("seed", "seen", "skipped", "place")
"""What a checkpoint records of the progress through the data."""


def check_resumed(state: Mapping[str, Any], settings: Mapping[str, Any], which: str, *, tables: bool) -> None:
    """Compare what a checkpoint records of the data with those of the run that is to go on.

    Args:
        state: of the data in the checkpoint.
        settings: of the run, by name; "content" is a digest of its images and captions, "data" their summary.
        which: the sources, in words for an error.
        tables: whether they are files, which may have moved since.

    Raises:
        UserError: other images or captions, or a checkpoint of an older version, whose records differ.
        ArgumentError: another value of a setting.
    """
    older = "the checkpoint was saved by an older version of pacl, which did not record"
    if lacking := {"settings", *PLACE} - state.keys():
        raise UserError(f"{older} {', '.join(sorted(lacking))}; start from the beginning")
    saved = state["settings"]
    if "content" not in saved:
        rank_zero_warn(f"{older} which images and captions it has seen: make sure that they are still the same")
    for name, value in settings.items():
        before = saved.get(name, value)
        if before == value or (name == "data" and tables and same_tables(before, value)):
            continue  # tables by other paths are the same: their content is compared
        if name == "content":
            advice = "restore them, or start from the beginning"
            raise UserError(f"{which}: not the images and captions of the run of the checkpoint; {advice}")
        raise ArgumentError(name, value, f"the run of the checkpoint has {before}; resume it with the same")


def same_tables(before: str, now: str) -> bool:
    """Whether two summaries of training data differ at most in the folders of the tables."""
    first, second = ([PurePath(line).name for line in text.split("; ")] for text in (before, now))
    return first == second
