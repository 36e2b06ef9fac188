"""The files of a training in its folder: which belong to one run alone, and how that run is resumed.

Nothing here imports PyTorch, so that a folder in use is refused before seconds are spent on that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pacl.errors import ArgumentError
from pacl.models.config import CARD, CONFIG, WEIGHTS

CURVE = "training.png"

CHECKPOINTS = "checkpoints"

HEAD_FILES = (CONFIG, WEIGHTS, CARD, CURVE, f"{CHECKPOINTS}/*.ckpt")
"""Files in the folder of a head's training that another run would replace."""

DUAL_ENCODER_FILES = ("*.json", "*.safetensors")
"""Files of a pretrained model, which another model would replace."""


RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID")
"""Environment variables that are 0, or not set, in the first process of a training."""


def is_first_process() -> bool:
    """Whether this is the first process of a training, which alone checks the folder: it writes there."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def find_results(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The results that are in a folder, sorted."""
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


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
        names = ", ".join(str(path.relative_to(folder)) for path in found[:4])
        raise ArgumentError(argument, folder, f"holds results of another run ({names}); {advice}")


def checkpoint_path(folder: Path, name: str | None) -> str | None:
    """The checkpoint that ``--ckpt_path`` names: a path, or "last" for the latest in the folder of the run."""
    return str(folder / CHECKPOINTS / "last.ckpt") if name == "last" else name


def resumes(folder: Path, checkpoint: str | None) -> bool:
    """Whether a run that begins at a checkpoint goes on with the run of a folder."""
    own = (folder.resolve(), folder.resolve() / CHECKPOINTS)
    return checkpoint is not None and Path(checkpoint).resolve().parent in own


def check_checkpoint_exists(checkpoint: str | None, given: str | None) -> None:
    """Refuse a checkpoint that there is not.

    Args:
        checkpoint: of `checkpoint_path`.
        given: what ``--ckpt_path`` was given, for the error.

    Raises:
        ArgumentError: there is no such file.
    """
    if checkpoint is None or Path(checkpoint).is_file():
        return
    place = Path(checkpoint)
    folders = [place / CHECKPOINTS, place] if place.is_dir() else [place.parent]
    others = [str(path) for folder in folders for path in sorted(folder.glob("*.ckpt"), reverse=True)]
    advice = (f"use {others[0]}, or " if others else "") + "leave it out to start from the beginning"
    raise ArgumentError("ckpt_path", given, f"there is no {checkpoint}; {advice}")


def advice_for(folder: Path) -> str:
    """What to do instead of training a head into a folder in use, in words for an error."""
    found = sorted((folder / CHECKPOINTS).glob("*.ckpt"))
    own = "last" if any(path.name == "last.ckpt" for path in found) else next(iter(found), None)
    resume = f", resume that run with --ckpt_path {own}" if found else ""
    return f"choose another --out{resume}, or replace it with --overwrite"


DUAL_ENCODER_ADVICE = "choose another folder, or replace the model with --overwrite"
