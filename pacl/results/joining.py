"""Formats of one result that several runs wrote: they go together, and the record names the files of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pacl.printing import printable


def is_same_result(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two records are of the same content, labels, model and settings, so that their files go together.

    A record of an earlier version, which does not state all of these, is of another result.
    """
    try:
        return bool(_what(old) == _what(new))
    except (TypeError, KeyError, AttributeError):
        return False


def result_digest(record: Mapping[str, Any] | None) -> str | None:
    """A short text that is the same for records of the same result, see `is_same_result`; None if it is not known."""
    try:
        text = json.dumps(_what(record or {}), sort_keys=True)
    except (TypeError, KeyError, AttributeError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _what(record: Mapping[str, Any]) -> tuple[Any, ...]:
    labels = [(each["label"], list(each.get("prompts", ()))) for each in record["labels"]]
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in record["settings"].items()}
    rest = [record.get(key) for key in ("content", "video", "model", "width", "height")]  # `video`: of videos only
    return labels, settings, record["background"]["rule"], rest


def join(out: Path, path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a result that was written again in other formats: it keeps what the earlier formats left.

    Args:
        out: folder of the results.
        path: of the record.
        old: the earlier record; see `is_same_result`.
        new: the record of what was written now.

    Returns:
        ``new``, with the files of ``old`` that are still there, and what its labels say besides.
    """
    kept = {kind: files for kind, paths in old["files"].items() if (files := _still_there(out, path, old, paths))}
    pairs = zip(new["labels"], old["labels"], strict=True)
    labels = [now | {key: value for key, value in before.items() if key not in now} for now, before in pairs]
    return {**new, "labels": labels, "files": {**kept, **new["files"]}}


def _still_there(out: Path, path: Path, record: Mapping[str, Any], paths: Any) -> list[str]:
    """Those of the paths in a record that lead to files now, as seen from the folder that this command runs in."""
    name = str(path.relative_to(out).with_suffix(""))
    levels = len(path.relative_to(out).parts)
    try:
        then = Path(record["files"]["json"][0]).parents[levels - 1]
        files = [out / str(Path(file).relative_to(then)).replace(printable(name), name) for file in paths]
    except (LookupError, TypeError, ValueError):
        return []
    return [printable(file) for file in files if file.is_file()]
