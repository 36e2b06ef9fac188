"""Labelled images, such as those of class folders, with their features, each image once.

An image that is there again, with the same pixels, counts once in its class, and one in several classes is left out of
all of them, since no classifier could be right about it. So no image is both trained and tested on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
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
from pacl.images import open_image, pixel_checksum
from pacl.printing import counted

if TYPE_CHECKING:
    from pacl.models.model import PACL

BATCH = 16
"""Images that go through the image tower at once."""


@dataclass
class EncodedOnce:
    """Labelled images that count, encoded, and what is left out.

    Attributes:
        indices: of the N images that count, int64 [N].
        examples: their features [N, F] and classes.
        digests: the `pixel_checksum` of each.
        several: for each image that is in several classes, an index of it in each of them.
        copies: number of images that are there again in their class.
        known: number of images whose digests were given as known.
    """

    indices: np.ndarray
    examples: Examples
    digests: list[str]
    several: list[list[int]]
    copies: int
    known: int

    def notes(self, names: Sequence[object]) -> list[str]:
        """What is left out, a line for each kind; ``names`` are those of all images."""
        notes = []
        if self.several:
            example = " = ".join(str(names[i]) for i in self.several[0])
            notes.append(f"{counted(len(self.several), 'image')} in several classes left out ({example})")
        if self.copies:
            notes.append(f"{counted(self.copies, 'copy', 'copies')} of images left out")
        if self.known:
            notes.append(f"{counted(self.known, 'image')} that are trained on left out")
        return notes


@dataclass
class EncodedFolders:
    """The images of `ClassFolders` that count, encoded.

    Attributes:
        classes: names of the C classes.
        files: N images.
        examples: their features [N, F] and classes.
        digests: the `pixel_checksum` of each.
        broken: what is wrong with each file that cannot be read.
        notes: what else is left out, a line for each kind.
    """

    classes: tuple[str, ...]
    files: list[Path]
    examples: Examples
    digests: list[str]
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


def encode_once(
    encoder: ImageEncoder, images: Iterable[tuple[int, np.ndarray]], labels: np.ndarray, known: Collection[str] = ()
) -> EncodedOnce:
    """Encode labelled images, each once.

    Args:
        encoder: encodes the images.
        images: index and RGB pixels, uint8 [H, W, 3], of each; read one by one.
        labels: class of each index, int64 [I].
        known: digests of images that do not count, such as those trained on.
    """
    parts: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    places: dict[str, dict[int, int]] = {}  # of each image, by its digest: the first index in each class
    copies = seen = 0

    def flush() -> None:
        if waiting:
            parts.append(encoder.encode(waiting))
            waiting.clear()

    for index, image in images:
        digest = pixel_checksum(image)
        label = int(labels[index])
        if digest in known:
            seen += 1
        elif digest in places:
            copies += label in places[digest]
            places[digest].setdefault(label, index)
        else:
            places[digest] = {label: index}
            waiting.append(image)
            if len(waiting) == BATCH:
                flush()
    flush()
    stays = np.array([len(classes) == 1 for classes in places.values()], dtype=bool)
    indices = np.array([min(classes.values()) for classes in places.values()], dtype=np.int64)[stays]
    vectors = np.concatenate(parts)[stays] if parts else np.empty((0, 0), np.float32)
    return EncodedOnce(
        indices,
        Examples(vectors, labels[indices]),
        [digest for digest, classes in places.items() if len(classes) == 1],
        [list(classes.values()) for classes in places.values() if len(classes) > 1],
        copies,
        seen,
    )


def encode_folders(
    folders: ClassFolders, encoder: ImageEncoder, paths: Iterable[Path], known: Collection[str] = ()
) -> EncodedFolders:
    """Read and encode the images of class folders.

    Args:
        folders: the folders.
        encoder: encodes the images.
        paths: ``folders.files``, perhaps with a progress bar around them.
        known: digests of images that do not count, such as those trained on.
    """
    broken: list[UserError] = []

    def readable() -> Iterator[tuple[int, np.ndarray]]:
        for index, path in enumerate(paths):
            try:
                image = open_image(path)
            except UserError as error:
                broken.append(error)
            else:
                yield index, image

    found = encode_once(encoder, readable(), folders.labels, known)
    return EncodedFolders(
        folders.classes,
        [folders.files[i] for i in found.indices],
        found.examples,
        found.digests,
        broken,
        [f"{folders.root}: {note}" for note in found.notes(folders.files)],
    )
