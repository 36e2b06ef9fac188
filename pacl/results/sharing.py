"""Which results may share a folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pacl.results.records import LOOKED_AT, names_of, records


def of_other_labels(
    out: Path, labels: Sequence[str], replaced: Collection[Path] = (), looked_at: int = LOOKED_AT
) -> tuple[Path, dict[str, Any]] | None:
    """A record in a folder of results that has other labels.

    Args:
        out: the folder.
        labels: names of the labels.
        replaced: paths of records that do not count.
        looked_at: so many records are read.
    """
    for path, record in islice(records(out), looked_at):
        if path not in replaced and names_of(record) != list(labels):
            return path, record
    return None


def of_other_model(
    out: Path,
    labels: Sequence[str],
    model: Mapping[str, Any],
    replaced: Collection[Path] = (),
    looked_at: int = LOOKED_AT,
) -> tuple[Path, str] | None:
    """A record in a folder of results that has these labels, by another model.

    Args:
        out: the folder.
        labels: names of the labels.
        model: what is known of the model, some of what records state.
        replaced: paths of records that do not count.
        looked_at: so many records are read.

    Returns:
        The path of the record, and what tells its model from this one, in words.
    """
    for path, record in islice(records(out), looked_at):
        if path in replaced or names_of(record) != list(labels):
            continue
        theirs = record["model"] if isinstance(record["model"], dict) else {}
        if different := [key for key, value in model.items() if theirs.get(key) != value]:
            if different != ["weights"]:
                return path, "another model"
            return path, "other weights of the model" if "weights" in theirs else "a model of weights not stated there"
    return None
