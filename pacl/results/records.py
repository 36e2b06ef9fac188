"""The records in a folder of results, ``NAME.json`` of an image and ``NAME.jsonl`` of a video, and what they say.

A folder of results may have another one below it, such as ``out`` and ``out/mine``: each was named by some run. The
`name` in a record tells whose it is: ``out/mine/cat.json`` with the name ``cat`` belongs to ``out/mine``, with the name
``mine/cat`` to ``out``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pacl.files import parse_json

LOOKED_AT = 100
"""Records that are read to find results of another kind: a folder may hold many thousands."""

ENDINGS = (".json", ".jsonl")
"""Of the records of images and of videos."""

RECORD_KEYS = frozenset({"image", "model", "settings", "labels", "files"})


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of an image, as `pacl.results.writer.Writer` writes it; None if the file is missing or another.

    Of a video, ``NAME.jsonl``, it is that of the first frame.
    """
    try:
        with path.open(encoding="utf-8") as file:
            record = parse_json(file.readline() if path.suffix == ".jsonl" else file.read())
    except (OSError, ValueError):
        return None
    is_record = isinstance(record, dict) and record.keys() >= RECORD_KEYS and isinstance(record["files"], dict)
    is_record = is_record and isinstance(record["image"], str)
    return record if is_record and names_of(record) is not None else None


def names_of(record: Mapping[str, Any]) -> list[str] | None:
    """The labels of a record; None if it has none that can be read."""
    try:
        return [str(each["label"]) for each in record["labels"]]
    except (TypeError, KeyError):
        return None


def names_of_files(record: Mapping[str, Any] | None, kind: str) -> set[str]:
    """The names of the files that a record states of a format, without their folders."""
    listed = None if record is None else record["files"].get(kind)
    return {Path(str(file)).name for file in listed} if isinstance(listed, list) else set()


def place_of(record: Mapping[str, Any]) -> str:
    """The path of a record's image in files of the whole run."""
    place = record.get("place")
    return place if isinstance(place, str) else Path(record["image"]).name


def owner(path: Path, record: Mapping[str, Any]) -> Path:
    """The folder of results that a record belongs to, which is above its path."""
    name = record.get("name")  # older records have none: they count as written to their own folder
    levels = name.count("/") if isinstance(name, str) else 0
    return path.parents[min(levels, len(path.parents) - 1)]


def records(
    out: Path, others: set[Path] | None = None, skipped: Collection[Path] = ()
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The records of images and videos in a folder of results, with their paths.

    Args:
        out: the folder; its subfolders are searched, too.
        others: the folders of results of their own below it are added to this set; their records are left out.
        skipped: paths of records that are not read.
    """
    others = set() if others is None else others
    for ending in ("*.jsonl", "*.json"):  # there are fewer videos
        for path in out.rglob(ending):
            if path in skipped or not others.isdisjoint(path.parents):
                continue
            if record := read_record(path):
                if out in (folder := owner(path, record)).parents:
                    others.add(folder)
                else:
                    yield path, record
