"""Whether a training may go on from a checkpoint: its data must share all that batches depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Protocol

from pytorch_lightning.utilities import rank_zero_warn

from pacl.data.pairs import FilePairs, PairSource, Subset
from pacl.data.sources import Source
from pacl.data.token_stamp import source_digest
from pacl.errors import ArgumentError, UserError

PLACE = ("seed", "seen", "skipped", "place")
"""What a checkpoint records of the progress through the data."""

OLDER = "the checkpoint was saved by an older version of pacl, which did not record"
RESTORE = "restore them, or start from the beginning"


class ResumedData(Protocol):
    """What is compared and named of a run's data; `CaptionData` has it."""

    templates: str

    @property
    def train(self) -> Sequence[Source]:
        """The training sources."""

    @property
    def val(self) -> Sequence[Source]:
        """The validation sources, without held-out images."""

    @property
    def streams(self) -> bool:
        """Whether the training data are shards."""


def check_resumed(state: Mapping[str, Any], now: Mapping[str, Any], data: ResumedData) -> None:
    """Refuse data that are not those of a checkpoint. Settings that the checkpoint did not record are not compared.

    The names of templates are compared only where the checkpoint did not record their texts.

    Args:
        state: of the data in the checkpoint.
        now: `CaptionData.settings` of this run.
        data: this run's data module. An error has the value of its attribute of the name of the setting, if there is
            one, else the value in ``now``.

    Raises:
        UserError: other images or captions, or a checkpoint of an older version, whose records differ.
        ArgumentError: another value of a setting.
    """
    if lacking := {"settings", *PLACE} - state.keys():
        raise UserError(f"{OLDER} {', '.join(sorted(lacking))}; start from the beginning")
    saved = state["settings"]
    if "content" not in saved:
        rank_zero_warn(f"{OLDER} which images and captions it has seen: make sure that they are still the same")
    if "texts" not in saved and now["nouns"]:
        now = {**now, "templates": data.templates}
    for name, value in now.items():
        before = saved.get(name, value)
        if before == value or (name == "data" and not data.streams and same_tables(before, value)):
            continue  # tables by other paths are the same: their content is compared
        which = ", ".join(source.pairs for source in [*data.train, *data.val])
        if name == "data":
            raise UserError(f"{which}: now {value}, in the run of the checkpoint {before}; resume it with the same")
        if name in ("content", "files"):
            raise UserError(f"{which}: not the images and captions of the run of the checkpoint; {RESTORE}")
        if name == "texts":
            raise ArgumentError("templates", data.templates, f"not those of the run of the checkpoint; {RESTORE}")
        given = getattr(data, name, value)
        raise ArgumentError(name, given, f"the run of the checkpoint has {before}; resume it with the same")


def source_digests(sources: Sequence[PairSource]) -> dict[str, str]:
    """What tells the images and captions of a run, wherever their folders are; only of sources of files.

    Returns:
        "content": SHA-256 of the paths and captions; "files": SHA-256 of the `source_digest` of each source.
    """
    own = [each for each in sources if isinstance(each, (FilePairs, Subset))]
    found = {"content": [each.digest() for each in own], "files": [source_digest(each).encode() for each in own]}
    return {name: hashlib.sha256(b"".join(digests)).hexdigest() for name, digests in found.items()}


def same_tables(before: str, now: str) -> bool:
    """Whether two summaries of training data differ at most in the folders of the tables."""
    before = before.replace(" other images", " images")  # an older version's word
    first, second = ([PurePath(line).name for line in text.split("; ")] for text in (before, now))
    return first == second
