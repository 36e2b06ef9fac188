"""Labelled images of a folder of class folders: a listing, for which no torch is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pacl.data.class_folders import by_class, check_classes
from pacl.data.folders import Contents
from pacl.errors import UserError, first_few
from pacl.printing import counted

HOLDOUT_SEED = 0


@dataclass(frozen=True)
class ClassFolders:
    """A folder with a folder of images for each class.

    Attributes:
        root: the folder.
        classes: names of the C class folders that have images, sorted.
        files: I images, sorted by class and path.
        labels: class of each image, int64 [I].
        notes: what is left out of the folder, a line for each kind.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, root: str | Path, classes: Sequence[str] | None = None) -> ClassFolders:
        """List a folder; images may lie at any depth of a class folder, and links to folders are followed.

        Args:
            root: the folder.
            classes: all classes, in the order of their numbers; None takes the folders' names.

        Raises:
            UserError: there is no such folder; it is no folder of class folders, or has fewer than two; or a class is
                not one of ``classes``.
        """
        root = Path(root)
        contents = Contents.of(root)
        members, loose = by_class(contents.images)
        if not members:
            advice = "; put its images into folders, one for each class" if loose else ""
            raise UserError(f"{root}: has no folders of images, such as {root / 'cat'} and {root / 'dog'}{advice}")
        check_classes(root, members)
        if classes is None and len(members) < 2:
            raise UserError(f"{root}: has one folder of images ({next(iter(members))}); a classifier needs two classes")
        names = tuple(sorted(members)) if classes is None else tuple(classes)
        if odd := sorted(set(members) - set(names)):
            raise UserError(f"{root}: {odd[0]} is not among the classes that are trained ({first_few(names)})")
        try:
            "".join(names).encode()
        except UnicodeEncodeError:
            raise UserError(f"{root}: the name of a class folder is not UTF-8; rename it") from None
        files = [root / image for name in names for image in members.get(name, [])]
        labels = np.repeat(np.arange(len(names)), [len(members.get(name, [])) for name in names]).astype(np.int64)
        return cls(root, names, tuple(files), labels, tuple(left_out(root, contents, members, loose)))

    def __len__(self) -> int:
        return len(self.files)


def left_out(root: Path, contents: Contents, members: Mapping[str, Sequence[str]], loose: Sequence[str]) -> list[str]:
    """Notes on what of a folder of class folders is no image of a class, a line for each kind.

    Args:
        root: the folder.
        contents: its files.
        members: class folders and their images, see `pacl.data.class_folders.by_class`.
        loose: images that are in none of them.
    """
    empty = sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in members
    )
    notes = []
    if empty:
        notes.append(f"{root}: {counted(len(empty), 'folder')} without images left out ({first_few(empty)})")
    if loose:
        notes.append(f"{root}: {counted(len(loose), 'image')} outside the class folders left out ({first_few(loose)})")
    return notes + [f"{root}: {count} {what} left out" for what, count in contents.unused(set()).items() if count]


def held_out(images: int, share: float) -> int:
    """How many images of a class `hold_out` tests on."""
    return min(max(round(share * images), 1), images - 1)


def hold_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split examples at random, with a fixed seed, into those to train on and those to test on.

    Args:
        labels: classes, int64 [N].
        share: of each class that is tested on, in (0, 1); at least one example of two or more, and never all.

    Returns:
        Indices of both, int64, sorted.
    """
    train, test = [np.empty(0, np.int64)], [np.empty(0, np.int64)]  # of no examples, none
    for label in np.unique(labels):
        shuffled = np.random.default_rng([HOLDOUT_SEED, label]).permutation(np.flatnonzero(labels == label))
        count = held_out(len(shuffled), share)
        test.append(shuffled[:count])
        train.append(shuffled[count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))
