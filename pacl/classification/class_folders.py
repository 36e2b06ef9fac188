"""Labelled images of a folder of class folders, each image once, with their features.

An image that is there twice counts once: the same file in one class is left out, and one in several classes is left out
of all of them, since no classifier could be right about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from pacl.classification.features import Kind, features
from pacl.classification.logistic import Examples
from pacl.classification.preprocessing import preprocessing
from pacl.data.class_folders import by_class, check_classes
from pacl.data.folders import Contents
from pacl.errors import UserError
from pacl.images import decode_image, open_image

if TYPE_CHECKING:
    from pacl.models.model import PACL

BATCH = 16
"""Images that go through the image tower at once."""
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
            classes: the classes that there may be, in the order of their numbers; None takes the folders' names.

        Raises:
            UserError: there is no such folder; it is no folder of class folders, or has fewer than two; or a class is
                not one of ``classes``.
        """
        root = Path(root)
        contents = Contents.of(root)
        members, loose = by_class(contents.images)
        if not members:
            advice = f"; its {len(loose)} images need a folder for each class" if loose else ""
            raise UserError(f"{root}: has no folders of images, such as {root / 'cat'} and {root / 'dog'}{advice}")
        check_classes(root, members)
        if classes is None and len(members) < 2:
            raise UserError(f"{root}: has one folder of images ({next(iter(members))}); a classifier needs two classes")
        names = tuple(sorted(members)) if classes is None else tuple(classes)
        if odd := sorted(set(members) - set(names)):
            raise UserError(f"{root}: {odd[0]} is not among the classes that are trained ({_some(names)})")
        try:
            "".join(names).encode()
        except UnicodeEncodeError:
            raise UserError(f"{root}: the name of a class folder is not UTF-8; rename it") from None
        files = [root / image for name in names for image in members.get(name, [])]
        labels = np.repeat(np.arange(len(names)), [len(members.get(name, [])) for name in names]).astype(np.int64)
        empty = sorted(
            entry.name
            for entry in root.iterdir()
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in members
        )
        notes = []
        if empty:
            notes.append(f"{root}: {_count(len(empty), 'folder')} without images left out ({_some(empty)})")
        if loose:
            notes.append(f"{root}: {_count(len(loose), 'image')} outside the class folders left out ({_some(loose)})")
        notes += [f"{root}: {count} {what} left out" for what, count in contents.unused(set()).items() if count]
        return cls(root, names, tuple(files), labels, tuple(notes))

    def __len__(self) -> int:
        return len(self.files)


def _some(names: Sequence[object], count: int = 3) -> str:
    return ", ".join(map(str, names[:count])) + (", ..." if len(names) > count else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


@dataclass
class EncodedFolders:
    """The images of `ClassFolders` that count, encoded.

    Attributes:
        classes: names of the C classes.
        files: N images.
        examples: their features [N, F] and classes.
        digests: SHA-256 of each file.
        broken: what is wrong with each file that cannot be read.
        notes: what else is left out, a line for each kind.
    """

    classes: tuple[str, ...]
    files: list[Path]
    examples: Examples
    digests: list[bytes]
    broken: list[UserError]
    notes: list[str]


class ImageEncoder:
    """Encodes the images of class folders, batch by batch.

    Args:
        model: the model; images are computed on its device.
        kind: kind of features, see `pacl.classification.features.features`.
        precision: precision of the image tower: ``fp32``, ``bf16`` or ``auto``.
    """

    def __init__(self, model: PACL, kind: Kind = "pooled", precision: str = "fp32") -> None:
        self.model, self.kind, self.precision = model, kind, precision
        self.prepare = preprocessing(model)

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """RGB images, uint8 [H, W, 3] each -> features, float32 [B, F]."""
        squares = torch.stack([self.prepare(Image.fromarray(image)) for image in images])
        found = features(self.model, squares.to(self.model.device), self.precision)[self.kind]
        return found.float().cpu().numpy()


def encode_folders(
    folders: ClassFolders, encoder: ImageEncoder, paths: Iterable[Path], known: Collection[bytes] = ()
) -> EncodedFolders:
    """Read and encode the images of class folders.

    Args:
        folders: the folders.
        encoder: encodes the images.
        paths: ``folders.files``, perhaps with a progress bar around them.
        known: digests of files that do not count, such as those trained on.
    """
    parts: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    kept: dict[bytes, int] = {}
    classes_of: dict[bytes, dict[int, Path]] = {}
    broken: list[UserError] = []
    again = seen = 0

    def flush() -> None:
        if waiting:
            parts.append(encoder.encode(waiting))
            waiting.clear()

    for index, path in enumerate(paths):
        try:
            content = path.read_bytes() if path.is_file() else b""
            digest = hashlib.sha256(content).digest()
            if content and digest in known:
                seen += 1
                continue
            if content and digest in classes_of:
                again += 1
                classes_of[digest].setdefault(int(folders.labels[index]), path)
                continue
            image = decode_image(content, str(path)) if content else open_image(path)
        except UserError as error:
            broken.append(error)
            continue
        except OSError as error:
            broken.append(UserError(f"{path} cannot be read: {error.strerror or error}"))
            continue
        classes_of[digest] = {int(folders.labels[index]): path}
        kept[digest] = index
        waiting.append(image)
        if len(waiting) == BATCH:
            flush()
    flush()
    several = [owners for owners in classes_of.values() if len(owners) > 1]
    stays = np.array([len(classes_of[digest]) == 1 for digest in kept], dtype=bool)
    indices = np.array(list(kept.values()), dtype=int)[stays]
    vectors = np.concatenate(parts)[stays] if parts else np.empty((0, 0), np.float32)
    notes = []
    if several:
        example = " = ".join(map(str, several[0].values()))
        notes.append(f"{folders.root}: {_count(len(several), 'image')} in several classes left out ({example})")
    if repeated := again - sum(len(owners) - 1 for owners in several):
        notes.append(f"{folders.root}: {_count(repeated, 'copy').replace('copys', 'copies')} of images left out")
    if seen:
        notes.append(f"{folders.root}: {_count(seen, 'image')} that are trained on left out")
    return EncodedFolders(
        folders.classes,
        [folders.files[i] for i in indices],
        Examples(vectors, folders.labels[indices]),
        [digest for digest, stay in zip(kept, stays, strict=True) if stay],
        broken,
        notes,
    )


def hold_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split examples at random, with a fixed seed, into those to train on and those to test on.

    Args:
        labels: classes, int64 [N].
        share: of each class that is tested on, in (0, 1); at least one example of two or more, and never all.

    Returns:
        Indices of both, int64, sorted.
    """
    train, test = [], []
    for label in np.unique(labels):
        shuffled = np.random.default_rng([HOLDOUT_SEED, label]).permutation(np.flatnonzero(labels == label))
        count = min(max(round(share * len(shuffled)), 1), len(shuffled) - 1)
        test.append(shuffled[:count])
        train.append(shuffled[count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))
