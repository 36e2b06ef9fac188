"""Protocols as data: all settings that a figure depends on, for each benchmark, read from ``eval/segmentation/protocols/NAME.yaml``.

A file of your own works as well. Its keys are the fields of `Protocol`; what stands under ``benchmarks`` holds for that
benchmark only:

    source: where the settings are from
    names: sclip
    size: 336
    window: 224
    benchmarks:
      voc21: {background: "threshold:0.1"}
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.errors import UserError
from pacl.prompts import get_templates
from pacl.segmentation.settings import SegmenterSettings

FOLDER = Path(__file__).parent / "protocols"
PROTOCOLS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
REFINED = ("cosines", "probabilities")
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
DILATIONS = (1, 2, 4, 8, 12, 24)
"""Of refinement on probabilities: the defaults of `pacl.segmentation.refine.refine`, whose module imports torch."""


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is measured. Fields of `pacl.segmentation.settings.SegmenterSettings` are described there.

    Attributes:
        name: the protocol's.
        source: the publication that it follows.
        names: list of class names: plain, sclip, clearclip, proxyclip, everyday (folders in ``eval/segmentation/names``), or a file.
        templates: sentence templates around each name: none, photo, paper, imagenet, or a file (beside the YAML).
        size: short side, in pixels, that pictures are resized to; None: the model's own.
        scales: factors of that size at which patch vectors are averaged; None: the model's own.
        interpolation: how they are resized: ``bilinear`` without antialiasing, as mmsegmentation does, or ``bicubic``.
        window: side of the sliding windows in pixels; None: the whole picture.
        window_step: pixels from one window to the next; None: half a window.
        stride: pixels from one patch to the next; None: the patch size.
        accumulate: ``pixel`` averages overlapping windows as the publications do; ``patch`` is faster.
        logit_scale: factor on the cosines in the softmax over names; None: the model's own.
        prior: weight of each class's phi with the whole image, beside its cosines; None: the model's own.
        background: what becomes class 0 where the benchmark has one: none, threshold:P or entropy:NATS.
        background_text: whether the names of class 0 compete like those of any other class.
        present: only the classes that a picture's mask shows, on 1 % of its pixels or more, compete in it, as for
            somebody who names what they see. The figures are then not those of the benchmark.
        smallest: classes that win no more than this share of the labelled pixels of a picture give way.
        refine: iterations of pixel-adaptive refinement (PAMR); 0: off.
        refine_on: ``cosines``, at the label's own size and before the softmax, as SCLIP and NACLIP have it, or the
            class ``probabilities``, at a long side of at most 512 pixels.
        dilations: distances, in pixels, of the neighbours that refinement looks at; on ``probabilities`` they are
            those of `pacl.segmentation.refine.refine`.
        changed: fields that were set otherwise than the protocol has them; the names are stated in any case.
    """

    name: str
    source: str = ""
    names: str = "plain"
    templates: str = "imagenet"
    size: int | None = None
    scales: tuple[float, ...] | None = (1.0,)
    interpolation: str = "bilinear"
    window: int | None = None
    window_step: int | None = None
    stride: int | None = None
    accumulate: str = "pixel"
    logit_scale: float | None = None
    prior: float | None = 0.0
    background: str = "none"
    background_text: bool = True
    smallest: float = 0.0
    present: bool = False
    refine: int = 0
    refine_on: str = "cosines"
    dilations: tuple[int, ...] = (8, 16)
    changed: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        _ = self.settings()
        if self.background.partition(":")[0] not in ("none", "threshold", "entropy", "peak"):
            raise UserError(
                f"--background {self.background}: a benchmark takes none, peak:SHARE, threshold:P or entropy:NATS"
            )
        if self.refine < 0:
            raise UserError(f"--refine {self.refine}: must be 0 (off) or a number of iterations")
        if not 0 <= self.smallest < 1:
            raise UserError(f"smallest {self.smallest}: is a share, at least 0 and below 1")
        if self.refine_on not in REFINED:
            raise UserError(f"refine_on {self.refine_on}: must be {' or '.join(REFINED)}")
        if not self.dilations or min(self.dilations) < 1:
            raise UserError(f"dilations {list(self.dilations)}: must be one or more distances from 1 pixel")
        if self.refine_on == "probabilities" and self.dilations != DILATIONS:
            raise UserError(f"dilations {list(self.dilations)}: on probabilities they are {list(DILATIONS)}")

    def settings(self, **more: Any) -> SegmenterSettings:
        """What `pacl.segmentation.patch_maps.encode_images` is to know, with ``more`` of its settings."""
        known = {f.name for f in dataclasses.fields(SegmenterSettings)}
        own = {key: value for key, value in dataclasses.asdict(self).items() if key in known}
        own["refine"] = self.refine if self.refine_on == "probabilities" else 0
        return SegmenterSettings(**{**own, **more})

    def described(self) -> dict[str, Any]:
        """All of it, as a result states it: files by their names, so that the folder of a clone does not matter."""
        values = dataclasses.asdict(self)
        if Path(self.templates).is_file():
            values |= {"templates": Path(self.templates).name, "template_texts": get_templates(self.templates)}
        return values


def read_protocol(name: str, benchmark: str, *, background: bool, changes: Mapping[str, Any] | None = None) -> Protocol:
    """The settings of a protocol for a benchmark.

    Args:
        name: one of `PROTOCOLS`, or a YAML file.
        benchmark: its name; one that the protocol does not mention gets the protocol's general settings.
        background: whether the benchmark has a class 0; without it what the protocol does about one is left out.
        changes: fields to set otherwise; those that end up different are named in ``changed``.

    Raises:
        UserError: no such protocol, a file that is none, or settings that make no sense.
    """
    path = FOLDER / f"{name}.yaml" if name in PROTOCOLS else Path(name)
    if not path.is_file():
        close = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(PROTOCOLS)}, or name a YAML file"
        raise UserError(f"--protocol {name}: no such protocol or file; {hint}")
    values = _read(path)
    by_benchmark = values.pop("benchmarks", None) or {}
    if not isinstance(by_benchmark, dict) or not all(isinstance(own, dict) for own in by_benchmark.values()):
        raise UserError(f"{path}: benchmarks is to hold settings by benchmark, such as voc21: {{size: 448}}")
    for some in (values, *by_benchmark.values()):
        _check(some, path)
    if unknown := [name for name in by_benchmark if name not in (*BENCHMARKS, CUSTOM)]:
        raise UserError(f"{path}: benchmarks: {unknown[0]} is none; there are {', '.join(BENCHMARKS)} and {CUSTOM}")
    values |= by_benchmark.get(benchmark, {})
    values["name"] = path.stem if name in PROTOCOLS else name
    if "templates" in values and (path.parent / values["templates"]).is_file():
        values["templates"] = str(path.parent / values["templates"])
    for key in ("dilations", "scales"):
        if values.get(key) is not None:
            values[key] = tuple(values[key])
    try:
        protocol = Protocol(**(values if background else values | {"background": "none", "smallest": 0.0}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    changes = {key: value for key, value in (changes or {}).items() if background or key != "background"}
    if changes.get("window") is not None and "window_step" not in changes:
        changes["window_step"] = None  # the protocol's step belongs to its own window
    changed = tuple(sorted(k for k, value in changes.items() if k != "names" and getattr(protocol, k) != value))
    return dataclasses.replace(protocol, **changes, changed=changed)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"--protocol {path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"--protocol {path}: is to hold settings, such as size: 336; see eval/segmentation/protocols")
    return values


def _check(values: dict[str, Any], path: Path) -> None:
    """Refuse fields that there are not, and values of the wrong kind."""
    hints = get_type_hints(Protocol)
    fields = [f.name for f in dataclasses.fields(Protocol) if f.name not in ("name", "changed")]
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{path}: {key} is no setting of a protocol; there are {', '.join(fields)}")
        kinds = tuple(get_args(hints[key])) or (hints[key],)
        if key in ("dilations", "scales"):
            items = (int,) if key == "dilations" else (int, float)
            right = isinstance(value, list) and all(type(item) in items for item in value)
            right, wanted = right or (key == "scales" and value is None), "a list of numbers"
        else:
            right = type(value) in kinds or (float in kinds and type(value) is int)
            wanted = " or ".join(KINDS[kind] for kind in kinds)
        if not right:
            raise UserError(f"{path}: {key} is {value!r}; it takes {wanted}")
