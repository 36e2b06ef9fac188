"""Results described in words for the report, independent of the folders in which they were measured."""

from __future__ import annotations

import math
import re
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

CHANGEABLE = re.compile(r"hf-hub:|[:/]/")
"""In names of models whose content may change: of repositories, and of absolute paths."""


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


def data_of(result: Result) -> str:
    """The data set, and for one's own which it is."""
    data = result.protocol.get("data")
    return result.dataset if data is None else f"{result.dataset} {data}"


def named(result: Result, key: str) -> str:
    """A setting that may be a file: its end, and the start of its digest, which tells files of one name apart."""
    digest = result.protocol.get(f"{key}_sha256")
    return tail(str(result.protocol.get(key))) + (f" {str(digest)[:8]}" if digest else "")


def identity(result: Result) -> tuple[Any, ...]:
    """What one row's results share: method, tower, weights, protocol, names unless the protocol's own, own data."""
    names = "" if names_of(result) == own_names(result) else str(names_of(result))
    weights, data = str(result.model.get("checksum")), str(result.protocol.get("data", ""))
    return result.method, tower(result), weights, protocol_parts(result), names, data


def tower(result: Result) -> str:
    """The CLIP and, for methods that use patches, the dense variant, the head, and a digest of the model's settings.

    The name of a folder or a file, or of a repository, does not tell what is in it; a digest does (``tower`` of
    `describe_model`; older results have none, but the checksum of the weights). Heads of the same weights may have
    other settings, such as the smoothing (``settings`` there; older results have none).
    """
    model = result.model
    name = str(model.get("clip") or model.get("name"))
    content = str(model.get("tower") or model.get("checksum") or "")[:8] if CHANGEABLE.search(name) else ""
    found = [f"{tail(name)} {content}".strip()]
    of_head = result.method in ("pacl", "phi", "mean", "pooled then phi") or result.method.startswith("probe patches")
    if of_head:
        found.append(str(model.get("dense")))
        if model.get("trained"):
            found.append(f"trained head {str(model.get('head') or '')[:8]}".strip())
    if (of_head or result.task == "segmentation") and model.get("settings"):
        found.append(f"settings {str(model['settings'])[:8]}")
    return ", ".join(found)


def protocol_parts(result: Result) -> tuple[str, ...]:
    """The protocol: its name, changed settings, and the split if it is not the usual one."""
    protocol = result.protocol
    words = [named(result, "name") if "name" in protocol else "?"]
    if result.task == "classification" and protocol.get("templates"):
        words.append(f"templates {named(result, 'templates')}")
    if "data" in protocol and "train_sha256" in protocol:
        words.append(f"trained on {str(protocol['train_sha256'])[:8]}")
    if "first_stage" in protocol:
        words.append(f"{protocol['first_stage']} candidates")
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
    names = named(result, "names") if result.protocol.get("names") else "none"
    if "names_sha256" not in result.protocol:
        names = names.partition(" (")[0]
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
        f"{key} {named(result, key) if f'{key}_sha256' in result.protocol else _text(result.protocol.get(key))}"
        for key in result.protocol.get("changed") or ()
        if key != "names"
    ]


def trained_on(result: Result) -> str:
    """The seeds of a probe, and how many images its training examples were chosen from; "" for other results."""
    protocol = result.protocol
    if "train_images" not in protocol:
        return ""
    images = f"chosen from {protocol['train_images']} of {protocol.get('train_full') or '?'} training images"
    return f"seeds {_text(protocol.get('seeds'))}, {images}"


def settings(result: Result) -> str:
    """Every setting of a result's protocol."""
    protocol = result.protocol
    words = [f"protocol {named(result, 'name') if 'name' in protocol else '?'}"]
    if protocol.get("names"):
        words.append(f"names {named(result, 'names')}")
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
