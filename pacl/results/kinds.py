"""The kinds of results that commands write to a folder. A folder holds one kind, so that none is taken for another.

Nothing here imports PyTorch, so that a folder in use is refused before seconds are spent on that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from pacl.errors import ArgumentError
from pacl.files import begins_with
from pacl.models.config import CONFIG, PROBE, PROBE_WEIGHTS, WEIGHTS
from pacl.results.records import LOOKED_AT, owner, read_record

CURVE = "training.png"

CHECKPOINTS = "checkpoints"

RUN_FILES = (CURVE, f"{CHECKPOINTS}/last.ckpt", f"{CHECKPOINTS}/best.ckpt", "grids/grid-*.png")
"""Files in the folder of a head's training that are not of the head itself, as patterns."""

DUAL_ENCODER_FILES = ("open_clip_config.json", "open_clip_model.safetensors", "dual_config.json", "dual.safetensors")
"""Files of a pretrained model: it has those of a CLIP or of two towers."""

MODEL_FILES = {
    "head": (CONFIG, WEIGHTS, *RUN_FILES),
    "pretrained model": DUAL_ENCODER_FILES,
    "probe": (PROBE, PROBE_WEIGHTS),
}
"""The kinds of models that are trained, and the files by which a folder is that of one: it holds one kind only."""

SEGMENTED, EXPORT, JOB = "results of pacl segment", "export", "job of pacl bulk"


def find_results(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The results that are in a folder, sorted."""
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _records(folder: Path) -> list[Path]:
    """The first record of an image or a video that belongs to the folder itself."""
    for ending in ("*.jsonl", "*.json"):
        for path in islice(folder.glob(ending), LOOKED_AT):
            if (record := read_record(path)) and owner(path, record) == folder:
                return [path]
    return []


def _file(name: str, is_own: Callable[[Path], bool], folder: Path) -> list[Path]:
    path = folder / name
    return [path] if path.is_file() and is_own(path) else []


Finder = Callable[[Path], Sequence[Path]]

_FINDERS: dict[str, Finder] = {
    "head": partial(_file, CONFIG, begins_with(rb'(?s)\{.*"format": "pacl-head"')),
    "pretrained model": partial(find_results, patterns=MODEL_FILES["pretrained model"]),
    "probe": partial(find_results, patterns=MODEL_FILES["probe"]),
    EXPORT: partial(_file, "model.json", begins_with(rb'(?s)\{.*"format": "pacl-export"')),
    JOB: partial(_file, "run.json", begins_with(rb'(?s)\{.*"format": "pacl-job"')),
    SEGMENTED: _records,
}
"""The kinds of results, each with a function that finds some of its files in a folder."""


def check_kind(folder: Path, kind: str, argument: str) -> None:
    """Refuse a folder that holds results of another kind.

    Args:
        folder: need not exist; what is in folders below it does not count.
        kind: of what is to be written: a key of `MODEL_FILES`, `SEGMENTED`, `EXPORT` or `JOB`. Models, which commands
            load by the name of their folder, are also kept apart from files that have the names of another kind's.
        argument: the caller's name for the folder, in the error.

    Raises:
        ArgumentError: there are files of another kind.
    """
    finders = dict(_FINDERS)
    if kind in MODEL_FILES:
        finders |= {name: partial(find_results, patterns=patterns) for name, patterns in MODEL_FILES.items()}
    for other, find in finders.items():
        if other != kind and (found := find(folder)):
            names = ", ".join(str(path.relative_to(folder)) for path in found[:4])
            raise ArgumentError(argument, folder, f"holds {_with_article(other)} ({names}); choose another folder")


def is_model(folder: str | Path) -> bool:
    """Whether a folder holds a model that was trained here, which ``--model`` takes."""
    return any(_FINDERS[kind](Path(folder)) for kind in ("head", "pretrained model"))


def _with_article(kind: str) -> str:
    return kind if kind == SEGMENTED else f"an {kind}" if kind == EXPORT else f"a {kind}"
