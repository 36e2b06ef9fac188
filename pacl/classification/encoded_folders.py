"""The images of class folders with their features, each image once.

An image that is there twice counts once: the same file in one class is left out, and one in several classes is left out
of all of them, since no classifier could be right about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from pacl.classification.class_folders import ClassFolders
from pacl.classification.features import Kind, features
from pacl.classification.logistic import Examples
from pacl.classification.preprocessing import preprocessing
from pacl.errors import UserError
from pacl.images import decode_image, open_image
from pacl.printing import counted

if TYPE_CHECKING:
    from pacl.models.model import PACL

BATCH = 16
"""Images that go through the image tower at once."""


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
        notes.append(f"{folders.root}: {counted(len(several), 'image')} in several classes left out ({example})")
    if repeated := again - sum(len(owners) - 1 for owners in several):
        notes.append(f"{folders.root}: {counted(repeated, 'copy', 'copies')} of images left out")
    if seen:
        notes.append(f"{folders.root}: {counted(seen, 'image')} that are trained on left out")
    return EncodedFolders(
        folders.classes,
        [folders.files[i] for i in indices],
        Examples(vectors, folders.labels[indices]),
        [digest for digest, stay in zip(kept, stays, strict=True) if stay],
        broken,
        notes,
    )
