"""Configurations of saved models: dataclasses that are stored as JSON, and checked when they are read."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, get_type_hints

from pacl.errors import UserError
from pacl.files import parse_json
from pacl.json_values import has_type, use_python_numbers

if TYPE_CHECKING:
    from typing_extensions import Self

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
"""Files of a head."""

PROBE, PROBE_WEIGHTS = "probe.json", "probe.safetensors"
"""Files of a linear probe on a model, see `pacl.classification.probe`."""


SHIPPED = ("photos", "bundled")
"""Names of the heads that are part of this package."""

HEAD_FORMAT = "pacl-head"
"""Name of the format of a head's configuration."""


def is_head(config: Path) -> bool:
    """Whether a ``config.json`` is that of a head: other libraries' models have files of this name too."""
    return config.is_file() and f'"{HEAD_FORMAT}"' in config.read_text(encoding="utf-8", errors="replace")


class SavedConfig:
    """Base class of dataclasses that are saved as a JSON file.

    Attributes:
        FORMAT: name of the file format, which distinguishes the file from those of other libraries.
        VERSION: of the format; files of another version are refused.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int] = 1

    def __post_init__(self) -> None:
        use_python_numbers(self)

    def to_json(self) -> str:
        """The fields as JSON; infinity, which JSON's numbers do not include, is written as the string "inf"."""
        values = {name: "inf" if value == math.inf else value for name, value in dataclasses.asdict(self).items()}  # type: ignore[call-overload]
        header = {"format": self.FORMAT, "version": self.VERSION}
        return json.dumps({**header, **values}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read the output of `to_json`.

        Args:
            text: the content of the file.
            source: its name, for error messages.

        Raises:
            UserError: not a file of this format and version, or a field that is missing, unknown or of a wrong type.
        """
        try:
            values = parse_json(text)
            if values.pop("format") != cls.FORMAT:
                raise ValueError(f"its format is not {cls.FORMAT}")
            if (version := values.pop("version")) != cls.VERSION:
                raise ValueError(f"version {version}; this version of pacl reads version {cls.VERSION}")
            hints = get_type_hints(cls)
            for name in values.keys() & hints.keys():
                if values[name] == "inf":
                    values[name] = math.inf
                if not has_type(values[name], hints[name]):
                    raise ValueError(f"{name} is {values[name]!r}")
                if hints[name] is float:
                    values[name] = float(values[name])
                if hints[name] is int and values[name] < 1:
                    raise ValueError(f"{name} is {values[name]}, must be at least 1")
            config = cls(**values)
            for name, value in vars(config).items():
                if value is None:  # the default of a base class, for settings that are derived there
                    raise ValueError(f"{name} is missing")
            return config
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{source}: not a valid {cls.FORMAT} configuration ({error})") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that holds the output of `to_json`.

        Raises:
            UserError: it cannot be read, or as `from_json`.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); save or download it again") from error
        return cls.from_json(text, str(path))
