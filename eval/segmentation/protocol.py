"""Protocols: all settings that a benchmark figure depends on, read from ``eval/segmentation/protocols/NAME.yaml``.

A file of your own works as well. Its keys are the fields of `Protocol` and of
`pacl.segmentation.settings.SegmenterSettings`; what stands under ``benchmarks`` holds for that benchmark only:

    source: where the settings are from
    names: sclip
    size: 336
    window: 224
    benchmarks:
      voc21: {background: "threshold:0.1"}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError as ParsingError
from jsonargparse import ArgumentParser

from eval.segmentation.registry import BENCHMARKS, CUSTOM
from pacl.cli.settings import check_refine_on
from pacl.errors import ArgumentError, UserError, did_you_mean
from pacl.files import parse_yaml
from pacl.prompts import get_templates
from pacl.segmentation.settings import SegmenterSettings

FOLDER = Path(__file__).parent / "protocols"
PROTOCOLS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
OWN_PROTOCOLS = tuple(sorted(path.stem for path in (FOLDER / "own").glob("*.yaml")))
"""Protocols of this package: "segment", and those of its models, by their names. `PROTOCOLS` are of publications."""
RULES = ("none", "threshold", "entropy", "peak")
"""Background rules that a benchmark can use; the others add texts that are not class names of the benchmark."""

PUBLISHED: dict[str, Any] = {
    "templates": "imagenet",
    "scales": (1.0,),
    "interpolation": "bilinear",
    "accumulate": "pixel",
    "prior": 0.0,
    "background": "none",
    "refine_on": "cosines",
}
"""Settings of most publications that differ from the defaults of `SegmenterSettings`."""


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is measured.

    Attributes:
        name: name of the protocol.
        settings: settings of the segmenter.
        source: the publication that it follows.
        names: list of class names: plain, sclip, clearclip, proxyclip, everyday (folders in
            ``eval/segmentation/names``), or a file.
        background_text: whether the names of class 0 compete like those of any other class.
        present: in each image, only the classes that have at least 1 % of its labelled pixels compete, as if a user
            named what the image shows. The figures are then not those of the benchmark.
        changed: fields whose values are not those of the protocol; not ``names``, which results always state.
    """

    name: str
    settings: SegmenterSettings = field(default_factory=lambda: SegmenterSettings(**PUBLISHED))
    source: str = ""
    names: str = "plain"
    background_text: bool = True
    present: bool = False
    changed: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        rule = self.settings.background
        if rule.partition(":")[0] not in RULES:
            raise ArgumentError("background", rule, "a benchmark takes none, peak:SHARE, threshold:P or entropy:NATS")

    def described(self) -> dict[str, Any]:
        """All settings in one dictionary, for results. Files have no folder, so that any clone states the same."""
        values = dataclasses.asdict(self)
        values |= values.pop("settings")
        if Path(self.settings.templates).is_file():
            templates = self.settings.templates
            values |= {"templates": Path(templates).name, "template_texts": get_templates(templates)}
        return values


SETTINGS = [f.name for f in dataclasses.fields(SegmenterSettings)]
OWN = ["source", "names", "background_text", "present"]
"""Keys of a protocol file that are not settings of the segmenter."""


def read_protocol(name: str, benchmark: str, *, background: bool, changes: Mapping[str, Any] | None = None) -> Protocol:
    """The settings of a protocol for a benchmark.

    Args:
        name: one of `PROTOCOLS` or `OWN_PROTOCOLS`, or a YAML file.
        benchmark: its name; one that the protocol does not mention gets the protocol's general settings.
        background: whether the benchmark has a class 0; without it, settings of the background are left out.
        changes: values that replace those of the protocol; fields that differ then are listed in ``changed``.

    Raises:
        UserError: no such protocol, not a protocol file, or settings that make no sense.
    """
    homes = {**dict.fromkeys(OWN_PROTOCOLS, FOLDER / "own"), **dict.fromkeys(PROTOCOLS, FOLDER)}
    path = homes[name] / f"{name}.yaml" if name in homes else Path(name)
    if not path.is_file():
        hint = did_you_mean(name, homes) or f"choose from {', '.join(homes)}, or name a YAML file"
        raise ArgumentError("protocol", name, f"no such protocol or file; {hint}")
    values = _read(path)
    by_benchmark = values.pop("benchmarks", None) or {}
    if not isinstance(by_benchmark, dict) or not all(isinstance(own, dict) for own in by_benchmark.values()):
        raise UserError(f"{path}: benchmarks must hold settings by benchmark, such as voc21: {{size: 448}}")
    if unknown := [name for name in by_benchmark if name not in (*BENCHMARKS, CUSTOM)]:
        raise UserError(f"{path}: benchmarks: no {unknown[0]}; choose from {', '.join(BENCHMARKS)} and {CUSTOM}")
    for own in (values, *by_benchmark.values()):
        _check(own, path)
    values = {**PUBLISHED, **_typed({**values, **by_benchmark.get(benchmark, {})}, path)}
    if (path.parent / values["templates"]).is_file():
        values["templates"] = str(path.parent / values["templates"])
    if not background:
        values |= {"background": "none", "min_area": 0.0}
    try:
        protocol = _build({**values, "name": path.stem if name in homes else name})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    changes = {key: value for key, value in (changes or {}).items() if background or key != "background"}
    if changes.get("window") is not None and "window_step" not in changes:
        changes["window_step"] = None  # the protocol's step belongs to its own window
    if changes.get("accumulate") == "patch" and "remainder" not in changes:
        changes["remainder"] = "resize"  # one patch grid has no remainder
    before = {**vars(protocol), **vars(protocol.settings)}
    changed = tuple(sorted(key for key, value in changes.items() if key != "names" and before[key] != value))
    built = _build({**before, **changes, "changed": changed})
    if "refine_on" in changes:
        check_refine_on(built.settings)
    return built


def _build(values: Mapping[str, Any]) -> Protocol:
    """A protocol from its own fields and those of its settings."""
    settings = SegmenterSettings(**{key: values[key] for key in SETTINGS if key in values})
    own = {key: values[key] for key in ("name", "changed", *OWN) if key in values}
    return Protocol(settings=settings, **own)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ArgumentError("protocol", path, f"cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise ArgumentError("protocol", path, "must hold settings, such as size: 336; see eval/segmentation/protocols")
    return values


def _check(values: Mapping[str, Any], path: Path) -> None:
    """Refuse fields that do not exist, and values of the wrong type."""
    if unknown := [key for key in values if key not in (*OWN, *SETTINGS)]:
        raise UserError(f"{path}: {unknown[0]} is no setting of a protocol; there are {', '.join([*OWN, *SETTINGS])}")
    _typed(values, path)


def _typed(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The values in the types of their fields, where YAML has no such type: a list becomes a tuple."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SegmenterSettings)
    parser.add_class_arguments(Protocol, skip={"name", "settings", "changed"})
    hints = {**get_type_hints(SegmenterSettings), **get_type_hints(Protocol)}
    typed = {}
    for key, value in values.items():
        try:
            typed[key] = parser.parse_object({key: value}, defaults=False)[key]
        except (ParsingError, TypeError):
            kind = str(hints[key]) if get_origin(hints[key]) else hints[key].__name__
            raise UserError(f"{path}: {key} is {value!r}; it takes {kind.replace('typing.', '')}") from None
    return typed
