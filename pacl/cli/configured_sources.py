"""The image-caption sources of a training configuration, read without torch for `pacl data check`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pacl.data.crop import SquareCrop
from pacl.data.sources import SHORT, Source, check_short
from pacl.errors import ArgumentError, UserError, did_you_mean, unreadable

SIDE = 224
"""Smaller images count as small, unless the configuration has another size."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Entry:
    """A source to check.

    Attributes:
        role: its position in the configuration, such as "train[0]"; empty for a single source.
        source: the source.
        crop: how training crops its images.
        side: size of the crops.
        clip: whether a CLIP may read the captions, which cuts off long ones.
    """

    role: str
    source: Source
    crop: SquareCrop = dataclasses.field(default_factory=SquareCrop)
    side: int = SIDE
    clip: bool = True

    @property
    def title(self) -> str:
        return f"{self.role} {self.source.pairs} ({self.source.kind})".strip()


def read_config(path: str | Path) -> list[Entry]:
    """The sources of a training configuration, training sources first.

    Raises:
        UserError: the file is not YAML, has no image-caption data from files, or has an invalid setting.
    """
    import yaml

    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or no date
        raise UserError(f"{path}: not YAML ({error})") from None
    data = config.get("data") if isinstance(config, dict) else None
    settings = data.get("init_args", data) if isinstance(data, dict) else None
    if not isinstance(settings, dict) or not (settings.get("train") or settings.get("pairs")):
        kind = f" ({data['class_path']})" if isinstance(data, dict) and "class_path" in data else ""
        raise UserError(f"{path}: its data{kind} has no image-caption pairs in data.init_args (pairs or train)")
    try:
        check_short(settings.get("pairs"), {name: settings.get(name) for name in SHORT})
    except ArgumentError as error:
        raise UserError(f"{path}: data.{error}") from None
    crop = _fill(SquareCrop, settings.get("cut") or {}, f"{path}: data.cut")
    try:
        crop.check()
    except ArgumentError as error:
        raise UserError(f"{path}: data.cut.{error}") from None
    clip = _reads_with_clip(config.get("model"))
    entries = []
    for part in ("train", "val"):
        own = settings.get(part) or []
        if part == "train" and settings.get("pairs"):  # see `sources_of`
            first = {name: settings[name] for name in ("pairs", *SHORT) if name in settings}
            own = [first, *own] if isinstance(own, list) else own
        if not isinstance(own, list):
            raise UserError(f"{path}: data.{part} must be a list of sources, each with its pairs")
        for i, each in enumerate(own):
            source = _fill(Source, each, f"{path}: data.{part}[{i}]")
            own_crop = crop if part == "train" or not crop.is_random else SquareCrop()
            entries.append(Entry(f"{part}[{i}]", source, own_crop, settings.get("size") or SIDE, clip))
    return entries


def _reads_with_clip(model: Any) -> bool:
    """Whether the model of a configuration may read texts with a CLIP: not if it names another text tower."""
    settings = model.get("init_args", model) if isinstance(model, dict) else None
    backbone = settings.get("backbone") if isinstance(settings, dict) else None
    text = str(backbone).partition("+")[2]
    return not text.startswith(("static:", "st:"))


def _fill(kind: type[Settings], values: Any, where: str) -> Settings:
    """A dataclass from its settings in YAML.

    jsonargparse would import the whole data module, and torch with it, to do this.

    Raises:
        UserError: a setting is unknown, missing or of another type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: {values!r} is not a mapping of settings")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            hint = did_you_mean(str(name), hints) or f"there are {', '.join(hints)}"
            raise UserError(f"{where}: no setting {name!r}; {hint}")
        if not _fits(value, hints[name]):
            wanted = str(hints[name]).removeprefix("<class '").removesuffix("'>").replace("typing.", "")
            raise UserError(f"{where}: {name} {value!r} is not {wanted}")
    fields: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
    for field in fields:
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: lacks {field.name!r}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML has the type of a type hint."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (tuple, list):
        return isinstance(value, list) and all(_fits(each, get_args(hint)[0]) for each in value)
    if get_args(hint):  # a union
        return any(_fits(value, each) for each in get_args(hint))
    return isinstance(value, (int, float) if hint is float else hint) and not isinstance(value, bool)
