"""Where the index of a folder is kept, and what its embeddings depend on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.errors import ArgumentError
from pacl.files import cache_folder, make_folder
from pacl.index.file import SUFFIX
from pacl.models import identity

if TYPE_CHECKING:
    from pacl.classification.scorer import Scorer

VERSION = 2
"""Of the format of the file and of how images are encoded."""
FOLDER = ".pacl_index"
NAME_LENGTH = 40  # characters of a model's name in the name of a file


def made_by(scorer: Scorer) -> dict[str, Any]:
    """What the embeddings of images depend on, JSON-serialisable. The precision changes their last digits only."""
    model = scorer.model
    pooled = identity.pooled(model.clip) if scorer.score != "phi" else {}
    patches = {**identity.patches(model), "size": model.config.size} if scorer.score != "clip" else {}
    return {"version": VERSION, "score": scorer.score, **pooled, **patches}


def file_name(scorer: Scorer, outside: Path | None = None) -> str:
    """The name of the index of a model and a score, so that several fit beside each other.

    Args:
        scorer: of the model and the score.
        outside: the folder of images, where the index is kept outside it.
    """
    about = json.dumps([made_by(scorer), None if outside is None else os.path.realpath(outside)], sort_keys=True)
    backbone = re.sub(r"\W+", "-", scorer.model.config.backbone).strip("-")[:NAME_LENGTH]
    digest = hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{backbone}-{scorer.score}-{digest}{SUFFIX}"


def shared_folder() -> Path:
    """The folder for indexes of folders that cannot be written to: ``$XDG_CACHE_HOME/pacl/index``."""
    return cache_folder() / "index"


def place(folder: Path, index: Path | None, scorer: Scorer, *, write: bool) -> Path:
    """The file of the index of a folder.

    Args:
        folder: the folder of images.
        index: the folder of the index; None is ``.pacl_index`` in ``folder``, or, where that cannot be written,
            `shared_folder`.
        scorer: of the model and the score.
        write: whether the file is to be written: then its folder is made.

    Raises:
        ArgumentError: ``index``: the folder cannot be written.
    """
    inside, outside = folder / FOLDER / file_name(scorer), file_name(scorer, folder)
    if index is not None:
        return (make_folder(index, "index") if write else index) / outside
    cached = shared_folder() / outside
    if not write and not (inside.is_file() and cached.is_file()):  # of two, it is the one that an update writes
        return cached if cached.is_file() else inside
    try:
        make_folder(inside.parent, "index")
    except ArgumentError:
        make_folder(cached.parent, "index")
        return cached
    return inside
