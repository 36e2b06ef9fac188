"""The image-caption sources of a training configuration, read without torch for `pacl data check`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentError as ParsingError
from jsonargparse import ArgumentParser

from pacl.cli.setting_errors import describe_mistake
from pacl.data.crop import SquareCrop
from pacl.data.sources import SHORT, Source, check_short
from pacl.errors import ArgumentError, UserError, check_count, did_you_mean, unreadable
from pacl.files import parse_yaml

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
    def is_val(self) -> bool:
        """Whether it is for validation; a single source is not."""
        return self.role.startswith("val")

    @property
    def title(self) -> str:
        return f"{self.role} {self.source.pairs} ({self.source.kind})".strip()


@dataclass(frozen=True)
class _Size:
    """The side of the squares, as data modules have it."""

    size: int | None = None


def read_config(path: str | Path) -> list[Entry]:
    """The sources of a training configuration, training sources first.

    Raises:
        UserError: the file is not YAML, has a key twice, no image-caption data from files, or has an invalid setting.
    """
    import yaml

    try:
        config = parse_yaml(Path(path).read_text(encoding="utf-8"))
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
    side = _fill(_Size, {"size": settings.get("size")}, f"{path}: data").size
    try:
        side = SIDE if side is None else check_count("size", side)
    except ArgumentError as error:
        raise UserError(f"{path}: data.{error}") from None
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
            entries.append(Entry(f"{part}[{i}]", source, own_crop, side, clip))
    return entries


def _reads_with_clip(model: Any) -> bool:
    """Whether the model of a configuration may read texts with a CLIP: not if it names another text tower."""
    settings = model.get("init_args", model) if isinstance(model, dict) else None
    backbone = settings.get("backbone") if isinstance(settings, dict) else None
    text = str(backbone).partition("+")[2]
    return not text.startswith(("static:", "st:"))


def _fill(kind: type[Settings], values: Any, where: str) -> Settings:
    """A dataclass from its settings in YAML, of the types that the parser of a training takes.

    Raises:
        UserError: a setting is unknown, missing or of another type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: {values!r} is not a mapping of settings")
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known) or f"there are {', '.join(known)}"
            raise UserError(f"{where}: no setting {name!r}; {hint}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        return kind(**parser.parse_object(values).as_dict())
    except ParsingError as error:
        mistake = describe_mistake(str(error), known)
        name = mistake.removeprefix("--")
        raise UserError(f"{where}: {mistake}" if name == mistake else f"{where}.{name}") from None
