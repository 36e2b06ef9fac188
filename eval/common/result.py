"""What every measurement writes, and what the report and the comparison with published figures read."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacl.errors import UserError
from pacl.files import written_whole

if TYPE_CHECKING:
    from pacl.models.model import PACL

RESULTS = "results.json"
FORMAT = "pacl-results"


@dataclass(frozen=True)
class Result:
    """One method on one data set.

    Attributes:
        task: ``segmentation``, ``classification`` or ``retrieval``.
        dataset: the benchmark's name, such as ``voc20``.
        split: which part of it.
        images: how many were measured.
        full: how many the whole split has; None when that is not known.
        method: a dense variant, ``pacl`` for a trained head, ``pooled``, ``phi`` or ``mean``.
        model: which model it was (`describe_model`).
        protocol: all settings that decide the figures, with the ``name`` of the protocol and its file of ``names``.
        scores: figures by name, in percent.
        intervals: of some scores, the bounds of a 95 % interval, in percent.
        details: figures beneath the scores, such as those of every class.
        speed: what it cost; apart, because it is not the same twice.
        made: when and with what.
    """

    task: str
    dataset: str
    split: str
    images: int
    full: int | None
    method: str
    model: dict[str, Any]
    protocol: dict[str, Any]
    scores: dict[str, float]
    intervals: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Whether it was measured on a part of the split only (or nobody knows how large that is)."""
        return self.full is None or self.images < self.full


def describe_model(model: PACL, name: str) -> dict[str, Any]:
    """What a result says of its model; ``name`` is what ``--model`` was given."""
    from pacl.models.backbone import weights_checksum

    config = model.config
    return {
        "name": name,
        "clip": config.backbone,
        "checksum": config.checksum[:16],
        "dense": config.dense,
        "trained": config.trained,
        "head": weights_checksum(model.head_state())[:16] if config.trained else None,
    }


def made_with(device: object) -> dict[str, str]:
    """Today, and the versions that may change a digit."""
    import open_clip
    import torch

    from pacl.__main__ import installed_version

    return {
        "date": datetime.date.today().isoformat(),
        "pacl": installed_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "device": str(device),
    }


def write_results(folder: str | Path, results: Sequence[Result]) -> Path:
    """Write ``results.json`` to a folder, whole; a NaN becomes null."""
    path = Path(folder, RESULTS)
    content = {"format": FORMAT, "version": 1, "results": [_plain(dataclasses.asdict(result)) for result in results]}
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_results(paths: str | Path | Iterable[str | Path]) -> list[Result]:
    """Read results from files, or from all ``results.json`` in folders and below, in the order of their paths.

    Raises:
        UserError: Nothing there, or a file that is none of ours.
    """
    found: list[Result] = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        files = sorted(path.rglob(RESULTS)) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path} holds no {RESULTS}: run python -m eval.segmentation or another script first")
        for file in files:
            found += _read(file)
    return found


def _read(file: Path) -> list[Result]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != 1:
            raise ValueError("of another format or a newer version")
        return [_result(values) for values in content["results"]]
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{file} is not a file of results ({error}): run the measurement again") from None


def _result(values: dict[str, Any]) -> Result:
    """With NaN where a figure is null."""
    for name, kinds in KINDS.items():
        if name in values and type(values[name]) not in kinds:
            raise ValueError(f"{name} is {values[name]!r}")
    changed, made = values.get("protocol", {}).get("changed") or [], values.get("made", {})
    if not isinstance(changed, (list, tuple)) or any(type(word) is not str for word in [*changed, *made.values()]):
        raise ValueError("changed settings and what it was made with are words")
    scores = {key: math.nan if value is None else float(value) for key, value in values["scores"].items()}
    speed = {key: math.nan if value is None else float(value) for key, value in values.get("speed", {}).items()}
    for key, bounds in values.get("intervals", {}).items():
        if type(bounds) is not list or len(bounds) != 2 or any(type(x) not in (int, float, type(None)) for x in bounds):
            raise ValueError(f"the interval of {key} is {bounds!r}")
        _ = [float(x) for x in bounds if x is not None]  # a number that none can hold is none
    return Result(**{**values, "scores": scores, "speed": speed})


KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "dataset", "split", "method"), (str,)),
    **dict.fromkeys(("model", "protocol", "scores", "intervals", "details", "speed", "made"), (dict,)),
    "images": (int,),
    "full": (int, type(None)),
}
"""Of the fields of a `Result`, as JSON has them."""


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value
