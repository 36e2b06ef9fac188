"""Results described in words for the report, independent of the folders in which they were measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.classification.image_sets import IMAGE_BENCHMARKS
from eval.common.result import Result
from eval.retrieval.caption_sets import LAYOUTS
from eval.segmentation.protocol import PROTOCOLS, read_protocol
from eval.segmentation.registry import BENCHMARKS

NONE = "-"
DATASETS = (*BENCHMARKS, *IMAGE_BENCHMARKS, *LAYOUTS)
NOT_LISTED = ("name", "names", "changed", "source", "main", "annotations", "template_texts")
"""Settings that `settings` describes in words or leaves out; it lists all others as they are."""


class Notes:
    """Footnotes, numbered in the order of their first use."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, *notes: str) -> str:
        """The numbers of notes, such as ``[1] [3]``; empty notes have none."""
        return " ".join(f"[{self.numbers.setdefault(note, len(self.numbers) + 1)}]" for note in notes if note)

    def lines(self) -> list[str]:
        """The notes, one on each line."""
        return [f"- [{number}] {note}" for note, number in self.numbers.items()]


def identity(result: Result) -> tuple[Any, ...]:
    """What the results of one row share: method, image tower, protocol, and names other than the protocol's own."""
    names = names_of(result)
    return result.method, tower(result), protocol_parts(result), "" if names == own_names(result) else str(names)


def tower(result: Result) -> str:
    """The CLIP and, for methods that use patches, the dense variant and the head."""
    model = result.model
    found = [tail(str(model.get("clip") or model.get("name")))]
    if result.method in ("pacl", "phi", "mean", "pooled then phi") or result.method.startswith("probe patches"):
        found.append(str(model.get("dense")))
        if model.get("trained"):
            found.append(f"trained head {str(model.get('head') or '')[:8]}".strip())
    return ", ".join(found)


def protocol_parts(result: Result) -> tuple[str, ...]:
    """The protocol: its name, changed settings, and the split if it is not the usual one."""
    protocol = result.protocol
    words = [tail(str(protocol.get("name", "?")))]
    if result.task == "classification" and protocol.get("templates"):
        words.append(f"templates {tail(str(protocol['templates']))}")
    words += changed(result)
    if _usual_split(result) not in (None, result.split):
        words.append(f"split {result.split}")
    return tuple(words)


def _usual_split(result: Result) -> str | None:
    """The data set's split in the literature; None if there is none."""
    if result.task == "segmentation" and result.dataset in BENCHMARKS:
        return BENCHMARKS[result.dataset].split
    if result.task == "classification" and result.dataset in IMAGE_BENCHMARKS and result.dataset != "custom":
        return next(iter(IMAGE_BENCHMARKS[result.dataset].splits))
    return "test" if result.task == "retrieval" and result.dataset in LAYOUTS else None


def names_of(result: Result) -> str | None:
    """The list of class names, without its source; None if the method needs no names."""
    names = tail(str(result.protocol.get("names") or "none")).partition(" (")[0]
    return None if names == "none" else names


def own_names(result: Result) -> str | None:
    """The protocol's own list of class names for the data set; None if unknown."""
    name, benchmark = str(result.protocol.get("name")), BENCHMARKS.get(result.dataset)
    if name not in PROTOCOLS or benchmark is None:
        return None
    return read_protocol(name, result.dataset, background=benchmark.background).names


def changed(result: Result) -> list[str]:
    """Settings that differ from the protocol's, except for the names."""
    return [
        f"{key} {_text(result.protocol.get(key))}" for key in result.protocol.get("changed") or () if key != "names"
    ]


def settings(result: Result) -> str:
    """Every setting of a result's protocol."""
    protocol = result.protocol
    words = [f"protocol {tail(str(protocol.get('name', '?')))}"]
    if protocol.get("names"):
        words.append(f"names {tail(str(protocol['names']))}")
    if "annotations" in protocol:
        words.append(str(protocol["annotations"]))
    if "main" in protocol:
        words.append(f"main score {protocol['main']}")
    rest = [
        f"{key}={_text(value)}"
        for key, value in protocol.items()
        if key not in NOT_LISTED and not key.endswith("_sha256") and value is not None
    ]
    return ", ".join(words) + (f" ({', '.join(rest)})" if rest else "")


def _text(value: Any) -> str:
    """The value of a setting."""
    if isinstance(value, (list, tuple)):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else tail(str(value))


def number(value: float, digits: int = 1) -> str:
    """A figure, or `NONE` if it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def tail(name: str) -> str:
    """The last two parts of an absolute path; other names are unchanged."""
    scheme, _, path = name.rpartition(":")
    if not Path(path).is_absolute():
        return name
    return (f"{scheme}:" if scheme else "") + "/".join(Path(path).parts[-2:])


def order(known: Iterable[str]) -> Any:
    """A sort key: the place in a list; names that are not in it come last, in alphabetical order."""
    places = {name: i for i, name in enumerate(known)}
    return lambda name: (places.get(name, len(places)), name)
