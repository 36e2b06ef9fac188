"""Keys and prompts of the classes of image classification data sets, see `eval.classification.image_sets`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from eval.common.class_names import find_misplaced, same_word
from pacl.class_files import label_ids, label_lines
from pacl.data.class_folders import class_names
from pacl.errors import ArgumentError, ask_meant, did_you_mean, first_few
from pacl.printing import counted
from pacl.prompts import read_classes

LISTS = Path(__file__).parent / "class_names"
Prompts = tuple[tuple[str, ...], ...]
"""One or more prompts for each class."""


def synsets() -> tuple[str, ...]:
    """WordNet ids of the 1,000 classes of ILSVRC 2012, in the order of the class numbers."""
    return tuple(key for key, _ in _read("imagenet_wnids.txt"))


def class_keys(name: str) -> tuple[str, ...]:
    """Keys of the C classes of a data set other than ``custom``, in the order of the class numbers."""
    if name in ("imagenet", "imagenet_v2", "imagenet_sketch"):
        return synsets()
    return tuple(key for key, _ in _read(f"{name}.txt"))


def class_prompts(name: str, keys: Sequence[str], file: str | Path | None = None) -> tuple[Prompts, str]:
    """The prompts of all classes of a data set.

    Args:
        name: name of the data set.
        keys: keys of its C classes.
        file: file with other prompts, one class per line: ``words=key`` in any order, or only words (no ``=`` in the
            file), in the order of the keys, which must not depend on whether numbers in them are sorted as numbers. For
            ``custom`` the ids of a JSON or YAML file are keys. None takes the prompts of the CLIP paper, for ``custom``
            `pacl.data.class_folders.class_names` of the keys.

    Returns:
        The prompts of each class, and where they come from, in words.

    Raises:
        UserError: the file cannot be read.
        ArgumentError: the lines of the file do not match the classes.
    """
    if file is not None:
        return _own_prompts(name, keys, file), str(file)
    if name == "custom":
        return tuple((words,) for words in class_names(keys).values()), "folders"
    if name.startswith("imagenet"):
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        words = dict(zip(synsets(), IMAGENET_CLASSNAMES, strict=True))
        return tuple((words[key],) for key in keys), "clip (open_clip's IMAGENET_CLASSNAMES)"
    by_key = dict(_read(f"{name}.txt"))
    return tuple(by_key[key] for key in keys), f"clip (class_names/{name}.txt)"


def _own_prompts(name: str, keys: Sequence[str], file: str | Path) -> Prompts:
    # Two classes of ImageNet have the prompt "sunglasses"; folders may have numbers for names.
    labels = read_classes(file, shared_prompts=True, numbers=True)
    by_key = {label.name: label.prompts for label in labels}
    if set(keys) <= set(by_key):
        return tuple(by_key[key] for key in keys)
    if name == "custom" and (ids := label_ids(file)) is not None:
        return _by_id(dict(zip(ids, (label.prompts for label in labels), strict=True)), keys, file)
    if any("=" in line for _, line in label_lines(file, numbers=True)):
        odd = next((label.name for label in labels if label.name not in keys), None)
        if odd is not None:
            raise ArgumentError("names", file, f"{odd!r} is no class of {name}; {_meant(odd, keys)}")
    elif len(labels) == len(keys) and not set(keys) & set(by_key):
        if name == "custom" and (ordered := sorted(keys, key=_as_numbers)) != list(keys):
            differs = next(i for i, key in enumerate(keys) if key != ordered[i])
            reason = f'folders have two orders: is the name in place {differs + 1} of "{keys[differs]}" or of'
            reason += f' "{ordered[differs]}"? write one line "words=folder" per class'
            raise ArgumentError("names", file, reason)
        if found := find_misplaced([label.name for label in labels], keys):
            reason = f'{found}; write "{found.name}={found.meant}" and so on, or the names in the order of the classes'
            raise ArgumentError("names", file, reason)
        return tuple(label.prompts for label in labels)
    missing = next(key for key in keys if key not in by_key)
    names, classes = counted(len(labels), "name"), counted(len(keys), "class", "classes")
    reason = f"{names} for the {classes} of {name}; write one line per class"
    raise ArgumentError("names", file, f'{reason}, in the order of the classes or as "words={missing}"')


def _by_id(by_id: Mapping[int, tuple[str, ...]], keys: Sequence[str], file: str | Path) -> Prompts:
    """The prompts of the classes whose keys are the ids of a file, compared as numbers: 07 is 7.

    Raises:
        ArgumentError: the ids are other than the keys.
    """
    numbers = [int(key) for key in keys if key.isdecimal()]
    if len(numbers) < len(keys) or sorted(numbers) != sorted(by_id):
        reason = f"its ids ({first_few(list(by_id))}) are not the names of the class folders ({first_few(keys)})"
        lacks = next((f"; there is no id {n}" for n in numbers if n not in by_id), "")
        raise ArgumentError("names", file, f'{reason}{lacks}; write one line "words=folder" per class')
    return tuple(by_id[number] for number in numbers)


def _as_numbers(key: str) -> list[str | int]:
    """A key by which numbers in names are sorted as numbers: class 2 before class 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", key))]


def _meant(name: str, keys: Sequence[str]) -> str:
    """What would work in place of a key that no class has."""
    same = same_word(name, keys)
    return (ask_meant([same]) if same else did_you_mean(name, keys)) or f"its classes are {first_few(keys)}"


@cache
def _read(file: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(key, prompts) of each class in a file of ``class_names``."""
    return tuple((label.name, label.prompts) for label in read_classes(LISTS / file))
