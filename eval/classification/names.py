"""What the classes of image data sets are: their keys, which are the data sets' own, and CLIP's words for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pacl.errors import UserError
from pacl.prompts import read_classes

LISTS = Path(__file__).parent / "class_names"
Prompts = tuple[tuple[str, ...], ...]
"""Of each class one or more synonyms."""


def synsets() -> tuple[str, ...]:
    """The 1,000 synsets of ILSVRC 2012, in the order of their class numbers."""
    return tuple(key for key, _ in _read("imagenet_wnids.txt"))


def class_keys(name: str) -> tuple[str, ...]:
    """The C classes of a data set (not ``custom``), in the order of their numbers."""
    if name in ("imagenet", "imagenet_v2", "imagenet_sketch"):
        return synsets()
    return tuple(key for key, _ in _read(f"{name}.txt"))


def class_prompts(name: str, keys: Sequence[str], file: str | Path | None = None) -> tuple[Prompts, str]:
    """The words for each class, and where they are from.

    Args:
        name: the data set; of ``custom`` the keys themselves are the words, underscores being spaces.
        keys: its C classes.
        file: other words: ``words=key`` in any order, or words alone in the order of the keys.

    Raises:
        UserError: The file cannot be read, or its lines do not fit the classes.
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
    raise UserError(
        f"--names {file}: {len(labels)} names do not fit the {len(keys)} classes of {name}; give a line for each, "
        f'in their order or as "words={lacking}"'
    )


@cache
def _read(file: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(key, prompts) of every class of one of our lists."""
    return tuple((label.name, label.prompts) for label in read_classes(LISTS / file))
