"""The folder of an earlier training, in the words of the flags: how its run is resumed or replaced.

Nothing here imports PyTorch, see `pacl.cli.early`.
"""

from __future__ import annotations

from pathlib import Path

from pacl.errors import ArgumentError
from pacl.results.kinds import CHECKPOINTS

TRAIN_OUT = "runs/train"
"""The folder of ``pacl train`` without ``--out``."""

DUAL_ENCODER_ADVICE = "choose another folder, or replace the model with --overwrite"


def checkpoint_path(folder: Path, name: str | None) -> str | None:
    """The checkpoint that ``--ckpt_path`` names: a path, or "last" for the latest in the folder of the run."""
    return str(folder / CHECKPOINTS / "last.ckpt") if name == "last" else name


def check_checkpoint_exists(checkpoint: str | None, given: str | None) -> None:
    """Refuse a checkpoint that does not exist.

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
    resume = ""
    if found:
        own = "last" if folder / CHECKPOINTS / "last.ckpt" in found else found[0]
        resume = f", resume that run with --ckpt_path {own}"
    return f"choose another --out{resume}, or replace it with --overwrite"
