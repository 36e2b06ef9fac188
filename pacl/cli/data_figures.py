"""The figures of the check of data as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pacl.data.inspection import PROBLEMS
from pacl.data.statistics import CONTEXT
from pacl.printing import escaped, without_controls

LISTED = 5  # bad images of each kind that are printed


def lines(record: dict[str, Any]) -> Iterator[str]:
    """The figures of one source, one per line."""
    of = f" of {record['total']:,}" if record["total"] not in (None, record["images"]) else ""
    rows: list[tuple[str, str | None]] = [
        ("images", f"{record['images']:,}{of}"),
        ("pairs", f"{record['pairs']:,}"),
        ("captions per image", _range(record["captions_per_image"])),
        ("without caption", f"{record['without_caption']:,}"),
        ("missing", f"{record['missing']:,}"),
        ("unreadable", f"{record['unreadable']:,} of {record['decoded'] + record['unreadable']:,} decoded"),
        *(("not used", f"{count:,} {kind}") for kind, count in record["unused"].items()),
        ("broken shards", f"{record['broken_shards']:,}" if record["broken_shards"] else None),
        ("repeated", ", ".join(f"{percent(v)} of {k}" for k, v in record["repeated"].items() if v is not None)),
        ("also in training", percent(record["in_training"])),
        ("words per caption", _range(record["caption_words"])),
        ("CLIP tokens", _tokens(record["caption_tokens"]) if record["clip"] else None),
        ("width", _range(record["width"])),
        ("height", _range(record["height"])),
        ("width / height", _range(record["aspect"], 2)),
        (f"smaller than {record['small']['side']}", percent(record["small"]["share"])),
        ("frequent words", ", ".join(list(record["words"])[:15])),
        ("frequent nouns", _nouns(record)),
        ("decoding", record["decoded_per_second"] and f"{record['decoded_per_second']:,.0f} images/s per process"),
    ]
    yield from (f"  {name:<20}{without_controls(text)}" for name, text in rows if text)
    for kind in PROBLEMS:
        own = [each for each in record["problems"] if each["problem"] == kind]
        yield from (f"  {kind}: {escaped(each['message'])}" for each in own[:LISTED])
        if len(own) > LISTED:
            yield f"  {kind}: and {len(own) - LISTED:,} more, all in the report"


def _range(spread: dict[str, float] | None, digits: int = 0) -> str | None:
    if spread is None:
        return None
    low, median, high = (f"{spread[key]:,.{digits}f}" for key in ("min", "median", "max"))
    return low if low == high else f"{low} to {high}, median {median}, mean {spread['mean']:,.{max(digits, 1)}f}"


def _nouns(record: dict[str, Any]) -> str | None:
    if not record["nouns"] and record["nouns"] is not None and record["words"]:
        return "none are found; they are looked for in English"
    return ", ".join(list(record["nouns"] or {})[:15])


def _tokens(spread: dict[str, float] | None) -> str | None:
    if spread is None:
        return None
    cut = f"{percent(spread['cut'])} of the captions are" if spread["cut"] else "no caption is"
    return f"{_range(spread)}; {cut} above the {CONTEXT} that a CLIP reads"


def percent(share: float | None) -> str | None:
    """A share from 0 to 1 in percent, not rounded to none or all; None stays None."""
    if share is None:
        return None
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{share:.1%}" if 0.0005 <= share < 0.9995 else "<0.1%" if share < 0.5 else ">99.9%"
