"""Published figures (``published.yaml``), and whether a result reproduces one.

A result is compared with a published row where everything is as published: OpenAI's ViT-B/16 (and its proxy), the
method, the protocol with its settings and list of class names, and the whole split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eval.common.result import Result
from eval.segmentation.protocol import read_protocol
from eval.segmentation.registry import BENCHMARKS

FILE = Path(__file__).parent / "published.yaml"
TOLERANCE = 0.5
ASSUMED = "assumed"


@dataclass(frozen=True)
class Published:
    """A row of published figures, in percent.

    Attributes:
        title: name of the method in the literature.
        source: key of the paper.
        scores: benchmark -> mIoU, or the score of its table.
        protocol: name of our protocol; None if it cannot be reproduced with this code.
        method: name of our method.
        changed: settings that differ from the protocol's.
        assumed: why its settings are uncertain; "" if they are documented.
        family: where the protocol is none of ours or the method is not: the protocol that it resembles, or its name.
        backbone: image towers.
        proxy: name of the image tower that our CLIP needs as its proxy; "" for none.
    """

    title: str
    source: str
    scores: dict[str, float]
    protocol: str | None = None
    method: str | None = None
    changed: dict[str, Any] = field(default_factory=dict)
    assumed: str = ""
    family: str = ""
    backbone: str = "ViT-B/16"
    proxy: str = ""

    @property
    def models(self) -> list[str]:
        """Names of the published CLIP among our models."""
        return [f"{clip},proxy={self.proxy}" if self.proxy else clip for clip in published()["clips"]]

    @property
    def setting(self) -> str:
        """Protocol and changes in words."""
        changes = [f"{key} {value}" for key, value in self.changed.items()]
        return ", ".join([self.protocol or self.family, *changes])


@dataclass(frozen=True)
class Verdict:
    """A result compared with the published row that it repeats.

    Attributes:
        result: the result.
        row: the published row; None if there is none.
        reasons: why they cannot be compared; empty if they can.
        passed: whether the result is within the tolerance; None if they cannot be compared.
    """

    result: Result
    row: Published | None
    reasons: tuple[str, ...]
    passed: bool | None = None

    @property
    def word(self) -> str:
        """``pass``, ``fail``, ``assumed`` (misses a row whose settings are uncertain) or ``-``."""
        if self.passed is None or self.row is None:
            return "-"
        return "pass" if self.passed else ASSUMED if self.row.assumed else "fail"


@cache
def published() -> dict[str, Any]:
    """The content of ``published.yaml``."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def published_rows(table: str = "segmentation") -> list[Published]:
    """The rows of a table of the file: segmentation, patch_classification, classification or retrieval."""
    return [Published(**row) for row in published()[table]]


def compare(result: Result, tolerance: float = TOLERANCE) -> Verdict:
    """Compare a result with the published row that it repeats, within ``tolerance`` mIoU."""
    if result.task != "segmentation":
        return Verdict(result, None, (f"{result.task}: only mIoU is compared",))
    method, protocol = result.method, result.protocol.get("name")
    rows = [row for row in published_rows() if row.protocol and (row.method, row.protocol) == (method, protocol)]
    if not rows:
        return Verdict(result, None, (f"no figure is published of {method} with protocol {protocol}",))
    if all(result.dataset not in row.scores for row in rows):
        return Verdict(result, None, (f"no figure is published on {result.dataset}",))
    reasons, row = min(((_differences(result, row), row) for row in rows), key=lambda each: len(each[0]))
    if reasons:
        return Verdict(result, row, tuple(reasons))
    # (rounded, because 40.0 is within 0.5 of 39.5 in decimals only)
    return Verdict(result, row, (), round(abs(result.scores["miou"] - row.scores[result.dataset]), 6) <= tolerance)


def _differences(result: Result, row: Published) -> list[str]:
    """How a result differs from the published row; empty if they can be compared."""
    benchmark = BENCHMARKS[result.dataset]
    full = benchmark.full.get(benchmark.split)
    reasons = []
    if result.model.get("clip") not in row.models or result.model.get("trained"):
        head = "a trained head on " if result.model.get("trained") else ""
        reasons.append(f"other weights: {head}{result.model.get('clip')}")
    if result.split != benchmark.split:
        reasons.append(f"split {result.split} instead of {benchmark.split}")
    elif result.partial or result.images != full:
        reasons.append(f"subset: {result.images} of {full} images")
    names = read_protocol(str(row.protocol), benchmark.name, background=benchmark.background).names
    if result.protocol.get("names") != names:
        reasons.append(f"other names: {result.protocol.get('names')} instead of {names}")
    if result.protocol.get("precision", "fp32") != "fp32":
        reasons.append(f"precision {result.protocol['precision']}")
    changed = {key: result.protocol.get(key) for key in result.protocol.get("changed") or () if key != "names"}
    for key in sorted({*changed, *row.changed}):
        if key not in row.changed:
            reasons.append(f"changed: {key} {changed[key]}")
        elif result.protocol.get(key) != row.changed[key]:
            reasons.append(f"{key} {result.protocol.get(key)} instead of {row.changed[key]}")
    if not reasons and not result.scores.get("miou", float("nan")) >= 0:
        reasons.append("no mIoU in the result")
    return reasons
