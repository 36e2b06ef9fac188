"""What the data of a resumed run must have in common with that of its checkpoint: all that its batches depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn

from pacl.data.splits import same_tables
from pacl.errors import ArgumentError, UserError

OLDER = "the checkpoint was saved by an older version of pacl, which did not record"
RESTORE = "restore them, or start from the beginning"


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any], data: Any) -> None:
    """Refuse data that are not those of a checkpoint. What the checkpoint did not record is not compared.

    Args:
        saved: `CaptionData.settings` of the run of the checkpoint.
        now: those of this run.
        data: this run's data module, whose attributes are the values for errors.

    Raises:
        UserError: other images or captions.
        ArgumentError: another setting.
    """
    if "content" not in saved:
        rank_zero_warn(f"{OLDER} which images and captions it has seen: make sure that they are still the same")
    for name, value in now.items():
        before = saved.get(name, value)
        if before == value or (name == "data" and not data.streams and same_tables(before, value)):
            continue  # tables by other paths are the same: their content is compared
        if name == "content":
            which = ", ".join(source.pairs for source in [*data.train, *data.val])
            raise UserError(f"{which}: not the images and captions of the run of the checkpoint; {RESTORE}")
        if name == "texts":
            raise ArgumentError("templates", data.templates, f"not those of the run of the checkpoint; {RESTORE}")
        given = getattr(data, name, value)
        raise ArgumentError(name, given, f"the run of the checkpoint has {before}; resume it with the same")
