"""The files of a training in its folder: which belong to one run alone, and which run a checkpoint belongs to.

Nothing here imports PyTorch, so that a folder in use is refused before seconds are spent on that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pacl.errors import ArgumentError
from pacl.files import begins_with, check_output_file
from pacl.models.config import CARD
from pacl.results.kinds import CHECKPOINTS, MODEL_FILES, find_results

PROBE_TABLE, PROBE_CURVE = "results.md", "accuracy.png"

MORE_FILES = {"head": (CARD,), "probe": (PROBE_TABLE, PROBE_CURVE)}
"""Further files of a run of a kind, which other folders may have, too."""

is_card = begins_with(rb"(?sm).*^(library_name: pacl\r?$|# A PACL patch embedder )")
"""Whether a file is the model card of a head, see `pacl.models.card`."""


def results_of(kind: str) -> tuple[str, ...]:
    """The files of a run of a kind in `MODEL_FILES`, which another run would replace."""
    return (*MODEL_FILES[kind], *MORE_FILES.get(kind, ()))


def check_unused(folder: Path, patterns: Sequence[str], argument: str, advice: str) -> None:
    """Refuse a folder that holds the results of another run.

    Args:
        folder: need not exist.
        patterns: glob patterns of the results.
        argument: the caller's name for the folder, in the error.
        advice: what to do instead, in the error.

    Raises:
        ArgumentError: there are results.
    """
    if found := find_results(folder, patterns):
        raise ArgumentError(argument, folder, f"holds results of another run ({_names(folder, found)}); {advice}")


def _names(folder: Path, found: Sequence[Path]) -> str:
    return ", ".join(str(path.relative_to(folder)) for path in found[:4])


def check_card(folder: Path, argument: str) -> None:
    """Refuse a folder with a README.md of the user's own, in whose place a training writes the card of its head.

    Args:
        folder: need not exist.
        argument: the caller's name for the folder, in the error.

    Raises:
        ArgumentError: there is one.
    """
    if os.path.lexists(folder / CARD):
        check_output_file(folder / CARD, is_card, argument)


def resumes(folder: Path, checkpoint: str | None) -> bool:
    """Whether a run that begins at a checkpoint goes on with the run of a folder."""
    own = (folder.resolve(), folder.resolve() / CHECKPOINTS)
    return checkpoint is not None and Path(checkpoint).resolve().parent in own
