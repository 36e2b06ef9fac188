"""Results: every evaluation command writes them, the report and the comparison with published figures read them."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from pacl.errors import UserError, unreadable
from pacl.files import atomic_write, parse_json

if TYPE_CHECKING:
    from pacl.models.model import PACL

RESULTS = "results.json"
FORMAT = "pacl-results"


@dataclass(frozen=True)
class Result:
    """The result of one method on one data set.

    Attributes:
        task: ``segmentation``, ``classification`` or ``retrieval``.
        dataset: the benchmark's name, such as ``voc20``.
        split: part of the data set.
        images: number of images that were measured.
        full: images in the whole split; None if unknown.
        method: a dense variant, ``pacl`` for a trained head, ``pooled``, ``phi`` or ``mean``.
        model: the model, see `describe_model`.
        protocol: all settings that decide the figures, with the ``name`` of the protocol and its list of ``names``.
        scores: figures by name, in percent.
        intervals: bounds of the 95 % interval of some scores, in percent.
        details: further figures, such as those of each class.
        speed: time and memory; these differ from run to run.
        made: date and versions, see `made_with`.
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
        """Whether only a part of the split was measured, or the size of the split is unknown."""
        return self.full is None or self.images < self.full


def describe_model(model: PACL, name: str) -> dict[str, Any]:
    """The model as results state it; ``name`` is how the user named it.

    ``tower`` tells weights and settings of the backbone apart, ``settings`` those of the whole model, so that figures
    of different models are never taken for those of one (see `pacl.models.identity`).
    """
    from pacl.models import identity

    config, clip = model.config, model.clip
    return {
        "name": name,
        "clip": config.backbone,
        "checksum": clip.checksum()[:16],
        "tower": identity.digest(identity.both_towers(clip)),
        "dense": config.dense,
        "trained": config.trained,
        "head": model.head_checksum()[:16] if config.trained else None,
        "settings": identity.digest(identity.whole(model)),
    }


def made_with(device: object) -> dict[str, str]:
    """Date, device, and the versions that may change a digit."""
    import open_clip
    import torch

    from pacl.cli.dispatch import installed_version

    return {
        "date": datetime.date.today().isoformat(),
        "pacl": installed_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "device": str(device),
    }


def write_results(folder: str | Path, results: Sequence[Result]) -> Path:
    """Write ``results.json`` to a folder; NaN becomes null."""
    path = Path(folder, RESULTS)
    content = {"format": FORMAT, "version": 1, "results": [_plain(dataclasses.asdict(result)) for result in results]}
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_results(paths: str | Path | Iterable[str | Path]) -> list[Result]:
    """Read results from files, or from all ``results.json`` in folders and below, in the order of their paths.

    A file that is named twice, as by its folder and by itself, is read once.

    Raises:
        UserError: there is none, or a file is not a file of results.
    """
    found: dict[Path, list[Result]] = {}
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        files = sorted(path.rglob(RESULTS)) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path} holds no {RESULTS}: run python -m eval.segmentation or another command first")
        for file in files:
            if file.resolve() not in found:
                found[file.resolve()] = _read(file)
    return [result for results in found.values() for result in results]


def _read(file: Path) -> list[Result]:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != 1:
            raise ValueError("of another format or a newer version")
        return [_result(values) for values in content["results"]]
    except OSError as error:
        raise unreadable(file, error) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{file} is not a file of results ({error}); measure again") from None


def _result(values: dict[str, Any]) -> Result:
    """A result from JSON values; a figure that is null becomes NaN."""
    for name, hint in get_type_hints(Result).items():
        kind = hint if isinstance(hint, UnionType) else get_origin(hint) or hint
        if name in values and (not isinstance(values[name], kind) or isinstance(values[name], bool)):
            raise ValueError(f"{name} is {values[name]!r}")
    changed, made = values["protocol"].get("changed") or [], values.get("made", {})
    if not isinstance(changed, list) or not all(isinstance(word, str) for word in [*changed, *made.values()]):
        raise ValueError("changed settings and versions must be text")
    figures: dict[str, dict[str, Any]] = {
        name: {key: _figure(value) for key, value in values.get(name, {}).items()} for name in ("scores", "speed")
    }
    figures["intervals"] = {
        key: [None if bound is None else float(bound) for bound in (low, high)]
        for key, (low, high) in values.get("intervals", {}).items()
    }
    return Result(**{**values, **figures})


def _figure(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    """A value as JSON values."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value
