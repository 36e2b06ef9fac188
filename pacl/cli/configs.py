"""The configuration files of the trainings: found by path or by name, and put in front where none is named."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pacl.errors import ArgumentError, ask_meant

TRAIN_CONFIG = "configs/scenes.yaml"
PRETRAIN_CONFIG = "configs/scenes_clip.yaml"
"""What is trained without ``--config``."""

CONFIG_FLAGS = ("--config", "-c")


def find_config(name: str) -> Path:
    """A configuration file, by its path or its name among the configurations of the package.

    Raises:
        ArgumentError: there is no such file; the message names the one that was meant, or all there are.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).resolve().parents[1]
    folders = [package / "configs", package.parent / "configs"]  # in a wheel, in a clone
    relative = Path(name).relative_to("configs") if Path(name).parts[:1] == ("configs",) else Path(name)
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    known = {path.stem: f"configs/{path.name}" for folder in folders for path in sorted(folder.glob("*.yaml"))}
    close = difflib.get_close_matches(Path(name).stem, known, 1)  # what all names have in common says nothing
    hint = ask_meant(known[stem] for stem in close) or f"known are {', '.join(known.values()) or 'none'}"
    raise ArgumentError("config", name, f"no such file; {hint}")


def with_config(argv: Sequence[str], default: str) -> list[str]:
    """The arguments with every ``--config`` found and put in front, in their order; ``default`` if there is none.

    For the parser the later of two words wins: in front, a configuration never undoes a flag.
    """
    configs: list[str] = []
    others: list[str] = []
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in CONFIG_FLAGS:
            others.append(word)
        elif equals:
            configs.append(f"{flag}={find_config(value)}")
        else:
            configs += [flag, *(str(find_config(name)) for name in islice(words, 1))]
    return [*(configs or ["--config", str(find_config(default))]), *others]
