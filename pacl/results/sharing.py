"""Which results may share a folder: those of the same labels, and in a data set those of one model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pacl.errors import ArgumentError, first_few
from pacl.results.records import LOOKED_AT, names_of, records


def of_other_labels(
    out: Path, labels: Sequence[str], replaced: Collection[Path] = (), looked_at: int = LOOKED_AT
) -> tuple[Path, dict[str, Any]] | None:
    """A record in a folder of results that has other labels.

    Args:
        out: the folder.
        labels: names of the labels.
        replaced: paths of records that do not count.
        looked_at: so many of the others are read.
    """
    for path, record in islice(records(out, skipped=replaced), looked_at):
        if names_of(record) != list(labels):
            return path, record
    return None


def difference(record: Mapping[str, Any], model: Mapping[str, Any]) -> str | None:
    """What tells the model of a record from another one, in words; None if nothing does.

    Args:
        record: the record.
        model: what is known of the other model, some of what records state.
    """
    theirs = record["model"] if isinstance(record["model"], dict) else {}
    different = [key for key, value in model.items() if theirs.get(key) != value]
    if different == ["weights"]:
        return "other weights of the model" if "weights" in theirs else "a model of weights not stated there"
    return "another model" if different else None


def check_same_labels(out: Path, labels: Sequence[str], argument: str = "out", looked_at: int = LOOKED_AT) -> None:
    """Check that a folder has no results of other labels: its masks would have ids of several meanings.

    Args:
        out: the folder.
        labels: names of the labels.
        argument: the caller's name for the folder, in the error.
        looked_at: so many records are read.

    Raises:
        ArgumentError: it has.
    """
    if other := of_other_labels(out, labels, looked_at=looked_at):
        path, record = other
        theirs = first_few(names_of(record) or [])
        raise refusal(argument, out, f"holds results of other labels ({path.relative_to(out)}: {theirs})")


def check_same_model(out: Path, model: Mapping[str, Any], argument: str = "out") -> None:
    """Check that a folder has no results of another model.

    Args:
        out: the folder.
        model: see `difference`.
        argument: the caller's name for the folder, in the error.

    Raises:
        ArgumentError: it has.
    """
    for path, record in islice(records(out), LOOKED_AT):
        if other := difference(record, model):
            raise refusal(argument, out, f"holds results of {other} ({path.relative_to(out)})")


def refusal(argument: str, out: Path, reason: str) -> ArgumentError:
    """The error about a folder that has results which these would be mixed with."""
    advice = "choose another folder, or replace all results in it (--overwrite, in Python overwrite=True)"
    return ArgumentError(argument, out, f"{reason}; {advice}")
