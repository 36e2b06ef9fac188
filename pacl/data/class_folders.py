"""One folder of images per class: which folders are classes, and how the classes are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pacl.data.caption_text import whole_text
from pacl.errors import UserError

SPLITS = frozenset(
    (
        *("train", "training", "val", "valid", "validation", "test", "testing", "dev", "data", "dataset"),
        *("train2014", "train2017", "val2014", "val2017", "photos", "pictures"),
    )
)
"""Folders of images with these names are parts of a data set, unless there are others beside them: train, car, bus."""

NO_CLASSES = frozenset(
    (
        *("images", "image", "imgs", "img", "jpegimages", "captions", "imagesets", "annotations", "annotation"),
        *("masks", "mask", "labels", "label", "gt", "segmentationclass", "segmentationobject"),
    )
)
"""Folders of images with these names are never classes."""

_PREFIX = re.compile(r"(\d+[._]\s*|n\d{8}[ _-])(?=.*[^\W\d_])")  # 001.Laysan_Albatross, 10_dog, n01440764_tench
_CODE = re.compile(r"\d+|n\d{8}")


def by_class(images: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Images, by their paths relative to a folder -> those in each of its folders (at any depth), and those in none."""
    members: dict[str, list[str]] = {}
    loose: list[str] = []
    for image in images:
        folder, _, rest = image.partition("/")
        (members.setdefault(folder, []) if rest else loose).append(image)
    return members, loose


def check_classes(path: Path, members: Mapping[str, Sequence[str]], advice: str = "", *advised: str) -> None:
    """Refuse folders that look like another layout than one folder per class.

    Args:
        path: the folder that holds them.
        members: folders and their images, see `by_class`.
        advice: what else would work.
        *advised: arguments that it names, see `UserError`.

    Raises:
        UserError: the names of the folders say nothing about what is in them.
    """
    listed = ", ".join(list(members)[:3])
    lower = {folder.lower() for folder in members}
    if lower & NO_CLASSES or (lower and lower <= SPLITS):
        inner = f"name one of them, such as {path / next(iter(members))}" if lower <= SPLITS else ""
        options = ", or ".join(filter(None, (inner, advice)))
        raise UserError(f"{path}: its folders ({listed}) are no classes{'; ' * bool(options)}{options}", *advised)
    for folder, images in members.items():
        inside = dict.fromkeys(PurePosixPath(image).parts[1] for image in images)
        if len(inside) > 1 and not any(len(PurePosixPath(image).parts) == 2 for image in images):
            options = ", or ".join(filter(None, (f"name {path / folder}", advice)))
            raise UserError(
                f"{path}: {folder} has no images of its own but several folders of them "
                f"({', '.join(list(inside)[:3])}); {options}",
                *advised,
            )


def is_code(folder: str) -> bool:
    """Whether the name of a class folder is a number or a WordNet id, which says nothing to a text encoder."""
    return _CODE.fullmatch(folder) is not None


def class_names(folders: Iterable[str]) -> dict[str, str]:
    """Class folders -> words: without underscores, and without the numbers or ids that begin all names."""
    folders = list(folders)
    numbered = all(_PREFIX.match(folder) for folder in folders)
    bare = {folder: _PREFIX.sub("", folder, count=1) if numbered else folder for folder in folders}
    return {folder: whole_text(name.replace("_", " ").strip() or name) for folder, name in bare.items()}
