"""Class keys of image data sets, which are the data sets' own, and the prompts for them, which are CLIP's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pacl.errors import ArgumentError
from pacl.prompts import read_classes

LISTS = Path(__file__).parent / "class_names"
Prompts = tuple[tuple[str, ...], ...]
"""One or more synonyms for each class."""


def synsets() -> tuple[str, ...]:
    """The 1,000 synsets of ILSVRC 2012, in the order of their class numbers."""
    return tuple(key for key, _ in _read("imagenet_wnids.txt"))


def class_keys(name: str) -> tuple[str, ...]:
    """The C classes of a data set (not ``custom``), in the order of their numbers."""
    if name in ("imagenet", "imagenet_v2", "imagenet_sketch"):
        return synsets()
    return tuple(key for key, _ in _read(f"{name}.txt"))


def class_prompts(name: str, keys: Sequence[str], file: str | Path | None = None) -> tuple[Prompts, str]:
    """The prompts of each class, and their source in words.

    Args:
        name: the data set; the prompts of ``custom`` are the keys, with spaces for underscores.
        keys: its C classes.
        file: other prompts: ``words=key`` in any order, or words alone in the order of the keys.

    Raises:
        UserError: the file cannot be read.
        ArgumentError: the lines of the file do not fit the classes.
    """
    if file is not None:
        return _own_prompts(name, keys, file), str(file)
    if name == "custom":
        return tuple((key.replace("_", " ").strip() or key,) for key in keys), "folders"
    if name.startswith("imagenet"):
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        words = dict(zip(synsets(), IMAGENET_CLASSNAMES, strict=True))
        return tuple((words[key],) for key in keys), "clip (open_clip's IMAGENET_CLASSNAMES)"
    by_key = dict(_read(f"{name}.txt"))
    return tuple(by_key[key] for key in keys), f"clip (class_names/{name}.txt)"


def _own_prompts(name: str, keys: Sequence[str], file: str | Path) -> Prompts:
    labels = read_classes(file, shared_prompts=True)  # as two classes of ImageNet share "sunglasses"
    by_key = {label.name: label.prompts for label in labels}
    if set(keys) <= set(by_key):
        return tuple(by_key[key] for key in keys)
    if len(labels) == len(keys) and not set(keys) & set(by_key):
        return tuple(label.prompts for label in labels)
    lacking = next(key for key in keys if key not in by_key)
    reason = f"{len(labels)} names do not fit the {len(keys)} classes of {name}; write a line for each"
    raise ArgumentError("names", file, f'{reason}, in their order or as "words={lacking}"')


@cache
def _read(file: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(key, prompts) of each class of one of the lists in ``class_names``."""
    return tuple((label.name, label.prompts) for label in read_classes(LISTS / file))
