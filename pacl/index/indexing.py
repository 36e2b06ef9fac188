"""Bring an index up to date with its folder: new and changed images are encoded, others forgotten."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from pacl.classification.scorer import BATCH, EmbeddedImages, Scorer
from pacl.errors import UserError
from pacl.image_batches import Batch, each_or_error, read, read_batches
from pacl.index.file import IndexFile
from pacl.locks import lock
from pacl.results.own import is_own

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

COMMIT_SECONDS = 5.0  # a process that is killed loses no more work than that
CHUNK = 2**20  # bytes read at a time

Progress = Callable[[int, int], None]
"""Called while images are encoded: how many of how many are done."""


class IndexInUse(UserError):
    """Another process writes the index."""


@dataclass(frozen=True)
class Source:
    """An image file that is new or has changed.

    Attributes:
        path: of the file.
        key: its path in the index.
        stamp: see `stamp_of`.
        content: digest of its content.
    """

    path: Path
    key: bytes
    stamp: tuple[int, int]
    content: bytes


@dataclass
class Indexing:
    """One update of an index.

    Args:
        file: the index, open for writing.
        folder: of the images, absolute.
        scorer: encodes them.
        keep_patches: whether patch vectors are kept, too.
        progress: called after each image.

    Attributes:
        unread: what is wrong with each image that cannot be read.
        own: images that are left out because this package wrote them.
    """

    file: IndexFile
    folder: Path
    scorer: Scorer
    keep_patches: bool
    progress: Progress
    unread: list[UserError] = field(default_factory=list)
    own: list[Path] = field(default_factory=list)

    def run(self, images: Sequence[Path]) -> None:
        """Make the index one of exactly these images. Where this is interrupted, what was encoded is kept."""
        known, present, new = self.file.files(), set(), []
        for path in images:
            key = path_key(path, self.folder)
            unchanged = key in known and stamp_or_none(path) == known[key]
            if not unchanged and is_own(path):
                self.own.append(path)
                continue
            present.add(key)
            if not unchanged:
                new.append(path)
        self.file.remove_images(key for key in known if key not in present)
        self._done, self._total, self._committed = 0, len(new), time.monotonic()
        for batch in read_batches(self._unknown(new), BATCH, read_as_known):
            self._add(batch)
        self.file.remove_unused()

    def _unknown(self, paths: Sequence[Path]) -> Iterator[Source]:
        """The files whose content has no embedding yet; the others are entered at once."""
        for path in paths:
            key = path_key(path, self.folder)
            try:
                source = Source(path, key, stamp_of(path), digest_of(path))
            except OSError as error:
                self._refuse(key, UserError(f"{path}: cannot be read ({error.strerror or error})"))
                continue
            embedding = self.file.find(source.content)
            if embedding is None:
                yield source
            else:
                self._enter(source, embedding)

    def _add(self, batch: Batch[Source]) -> None:
        """Encode a batch of images, and enter them."""
        for source, _, found in each_or_error(batch, self._embed, "a smaller model, or bf16"):
            if isinstance(found, UserError):
                self._refuse(source.key, found)
            else:
                self._enter(source, self.file.add_embedding(source.content, *found))

    def _embed(self, sources: list[Source], images: list[np.ndarray]) -> list[tuple[np.ndarray, Tensor | None]]:
        """The vector of each image, and its patch vectors where they are kept."""
        embedded = self.scorer.embed(images, [str(source.path) for source in sources])
        patches = embedded.patches if embedded.patches and self.keep_patches else [None] * len(images)
        return list(zip(image_vectors(embedded).numpy(), patches, strict=True))

    def _enter(self, source: Source, embedding: int) -> None:
        self.file.add_image(source.key, *source.stamp, embedding)
        self._advance()

    def _refuse(self, key: bytes, error: UserError) -> None:
        """Leave an image out, also if an earlier version of it could be read."""
        self.unread.append(error)
        self.file.remove_images([key])
        self._advance()

    def _advance(self) -> None:
        self._done += 1
        self.progress(self._done, self._total)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.file.commit()
            self._committed = time.monotonic()


class Known(Protocol):
    """An image file of which the content is known."""

    @property
    def path(self) -> Path:
        """Of the file."""

    @property
    def content(self) -> bytes | None:
        """What `digest_of` it was; None matches none."""


class Changed(UserError):
    """A file is not the one that is known."""


def read_as_known(image: Known) -> np.ndarray | UserError:
    """`read` an image whose file has the known content, so that all that is kept of it is of the same image."""
    found = read(image)
    if isinstance(found, UserError):
        return found
    try:  # after it was decoded, so that it was the same then
        same = digest_of(image.path) == image.content
    except OSError:
        same = False
    return found if same else Changed(f"{image.path}: has changed meanwhile")


def image_vectors(images: EmbeddedImages) -> Tensor:
    """The vectors of images, float32 [B, D], of unit length, on the CPU: pooled embeddings, or means of the patches."""
    if images.pooled is not None:
        return images.pooled.float().cpu()
    return F.normalize(torch.stack([patches.mean(dim=0) for patches in images.patches or ()]).float(), dim=-1).cpu()


def path_key(path: Path, folder: Path) -> bytes:
    """The path of an image in the index: relative to the folder, which may be moved, with slashes."""
    return os.fsencode(path.absolute().relative_to(folder).as_posix())


def stamp_of(path: Path) -> tuple[int, int]:
    """Size in bytes, and a digest of the times of the last changes of a file's content and of its name or attributes.

    The time of the content stays with a file that is renamed, and programs set it; the other (``st_ctime``) is the
    system's own. A file that only has another stamp is read again, but not encoded.
    """
    status = path.stat()
    times = f"{status.st_mtime_ns} {status.st_ctime_ns}".encode()
    return status.st_size, int.from_bytes(hashlib.blake2b(times, digest_size=7).digest(), "big")  # SQLite has 63 bits


def stamp_or_none(path: Path) -> tuple[int, int] | None:
    """`stamp_of` a file, or None if there is none that can be read."""
    try:
        return stamp_of(path)
    except OSError:  # reading it will say why
        return None


def digest_of(path: Path) -> bytes:
    """16 bytes that tell the contents of files apart."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let no other process write the same index meanwhile. The lock ends with the process, however that ends.

    Raises:
        IndexInUse: another process writes it.
    """
    with lock(f"{path}.lock", "let no second process write there") as is_ours:
        if not is_ours:
            raise IndexInUse(f"{path.parent}: another process brings this index up to date now; wait for it")
        yield
