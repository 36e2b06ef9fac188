"""How the report calls things: what makes a result the one that it is, in words that do not depend on folders."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.classification.image_sets import IMAGE_BENCHMARKS
from eval.common.result import Result
from eval.retrieval.caption_sets import LAYOUTS
from eval.segmentation.registry import BENCHMARKS
from eval.segmentation.protocol import PROTOCOLS, read_protocol

NONE = "-"
DATASETS = (*BENCHMARKS, *IMAGE_BENCHMARKS, *LAYOUTS)
TOLD = ("name", "names", "changed", "source", "main", "annotations", "template_texts")
"""What `settings` says in words of its own, or not at all; all others follow as they are."""


class Notes:
    """Numbered notes, each once, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, *notes: str) -> str:
        """Their numbers, such as ``[1] [3]``."""
        return " ".join(f"[{self.numbers.setdefault(note, len(self.numbers) + 1)}]" for note in notes if note)

    def lines(self) -> list[str]:
        """The notes, one a line."""
        return [f"- [{number}] {note}" for note, number in self.numbers.items()]


def identity(result: Result) -> tuple[Any, ...]:
    """What makes a row: method, image tower, protocol, and the names where they are not the protocol's own."""
    names = names_of(result)
    return result.method, tower(result), protocol_words(result), "" if names == own_names(result) else str(names)


def tower(result: Result) -> str:
    """The CLIP and, where patches count, what became of them."""
    model = result.model
    found = [tail(str(model.get("clip") or model.get("name")))]
    if result.method in ("pacl", "phi", "mean", "pooled then phi") or result.method.startswith("probe patches"):
        found.append(str(model.get("dense")))
        if model.get("trained"):
            found.append(f"trained head {str(model.get('head') or '')[:8]}".strip())
    return ", ".join(found)


def protocol_words(result: Result) -> tuple[str, ...]:
    """The protocol: its name, what was changed in it, and the split where it is not the usual one."""
    protocol = result.protocol
    words = [tail(str(protocol.get("name", "?")))]
    if result.task == "classification" and protocol.get("templates"):
        words.append(f"templates {tail(str(protocol['templates']))}")
    words += changed(result)
    if _usual_split(result) not in (None, result.split):
        words.append(f"split {result.split}")
    return tuple(words)


def _usual_split(result: Result) -> str | None:
    """The data set's split in the literature; None where there is none."""
    if result.task == "segmentation" and result.dataset in BENCHMARKS:
        return BENCHMARKS[result.dataset].split
    if result.task == "classification" and result.dataset in IMAGE_BENCHMARKS and result.dataset != "custom":
        return next(iter(IMAGE_BENCHMARKS[result.dataset].splits))
    return "test" if result.task == "retrieval" and result.dataset in LAYOUTS else None


def names_of(result: Result) -> str | None:
    """The list of class names, without where it is from; None where no names count."""
    names = tail(str(result.protocol.get("names") or "none")).partition(" (")[0]
    return None if names == "none" else names


def own_names(result: Result) -> str | None:
    """The list of class names that the protocol has for the data set; None where that is not known."""
    name, benchmark = str(result.protocol.get("name")), BENCHMARKS.get(result.dataset)
    if name not in PROTOCOLS or benchmark is None:
        return None
    return read_protocol(name, result.dataset, background=benchmark.background).names


def changed(result: Result) -> list[str]:
    """What was set otherwise than the protocol has it, but for the names."""
    return [
        f"{key} {in_words(result.protocol.get(key))}" for key in result.protocol.get("changed") or () if key != "names"
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
        words.append(f"the literature gives {protocol['main']}")
    rest = [
        f"{key}={in_words(value)}"
        for key, value in protocol.items()
        if key not in TOLD and not key.endswith("_sha256") and value is not None
    ]
    return ", ".join(words) + (f" ({', '.join(rest)})" if rest else "")


def in_words(value: Any) -> str:
    """A setting's value."""
    if isinstance(value, (list, tuple)):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else tail(str(value))


def number(value: float, digits: int = 1) -> str:
    """A figure, or `NONE` where it is no number."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def tail(name: str) -> str:
    """Of a path, its last two parts: where a folder lies says nothing about the result."""
    scheme, _, path = name.rpartition(":")
    if not Path(path).is_absolute():
        return name
    return (f"{scheme}:" if scheme else "") + "/".join(Path(path).parts[-2:])


def order(known: Iterable[str]) -> Any:
    """A key that sorts by the place in a list; what is not in it comes after, by name."""
    places = {name: i for i, name in enumerate(known)}
    return lambda name: (places.get(name, len(places)), name)
