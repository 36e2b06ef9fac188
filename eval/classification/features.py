"""Features of whole images and of class names, for zero-shot classification, linear probes and retrieval.

Images are preprocessed by open_clip's transform for the CLIP, as in published evaluations, and not as for segmentation.

Shapes: B images in a batch, I images in total, P patches, D embedding, W token width, N prompts, K templates, S side of
the square images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eval.classification.image_sets import ImageSet
from pacl.classification.features import KINDS, features, made_by
from pacl.classification.preprocessing import preprocessing
from pacl.cli.progress import tracked
from pacl.data.workers import usable
from pacl.errors import UserError
from pacl.files import atomic_write
from pacl.models import identity
from pacl.models.model import PACL
from pacl.models.precision import resolve_precision
from pacl.prompts import fill

CONTENT = "features_sha256"  # in the metadata of a file of the cache
TEXT_BATCH = 640  # texts (prompts in templates) that are encoded at a time


@dataclass(frozen=True)
class Loading:
    """How images are read and encoded.

    Attributes:
        batch: images per batch.
        workers: processes that read images.
        precision: precision of the image tower: ``fp32``, ``bf16`` or ``auto``.
    """

    batch: int = 64
    workers: int = 2
    precision: str = "fp32"


class SquareImages(Dataset[tuple[Tensor, str]]):
    """Pairs of a preprocessed image, float32 [3, S, S], and an error message, which is empty if the image was read.

    Args:
        read: index -> image, uint8 [H, W, 3].
        count: number of images.
        model: the model whose preprocessing is used.
    """

    def __init__(self, read: Callable[[int], np.ndarray], count: int, model: PACL) -> None:
        self.read, self.count = read, count
        self.size, self.transform = model.clip.size, preprocessing(model)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        try:
            return self.transform(Image.fromarray(self.read(index))), ""
        except UserError as error:  # returned, since an exception in a worker would contain its traceback
            return torch.zeros(3, self.size, self.size), str(error)


def load_batches(images: ImageSet, model: PACL, loading: Loading, title: str = "") -> Iterator[tuple[Tensor, Tensor]]:
    """Load an image set in batches, in order, on the model's device.

    Args:
        images: the image set.
        model: the model.
        loading: how images are read.
        title: title of the progress bar.

    Yields:
        Normalised images, float32 [B, 3, S, S] at the CLIP's native size, and their classes, int64 [B].

    Raises:
        UserError: an image cannot be read. It is not skipped, since that would change the benchmark.
    """
    squares = SquareImages(images.read, len(images), model)
    labels = torch.from_numpy(images.labels).split(loading.batch)
    batches = load_squares(squares, model, loading, images.benchmark.name, title)
    for batch, batch_labels in zip(batches, labels, strict=True):
        yield batch, batch_labels.to(model.device)


def load_squares(squares: SquareImages, model: PACL, loading: Loading, name: str, title: str = "") -> Iterator[Tensor]:
    """Load images in batches, in order, with a progress bar.

    Args:
        squares: the images.
        model: the model whose device is used.
        loading: how images are read.
        name: name of the data set, for error messages.
        title: title of the progress bar.

    Yields:
        Normalised images, float32 [B, 3, S, S], on the model's device.

    Raises:
        UserError: an image cannot be read.
    """
    loader = DataLoader(squares, batch_size=loading.batch, num_workers=usable(loading.workers))
    for pixels, errors in tracked(loader, title):
        if error := next(filter(None, errors), None):
            raise UserError(f"{name}: {error}")
        yield pixels.to(model.device)


def class_embeddings(
    model: PACL, prompts: Sequence[str], templates: Sequence[str], title: str = "texts"
) -> tuple[Tensor, Tensor]:
    """Encode prompts. The embedding of a prompt is the mean of its unit embeddings in all templates, normalised again.

    Args:
        model: the model.
        prompts: N prompts.
        templates: K sentence templates.
        title: title of the progress bar.

    Returns:
        CLIP's text embeddings [N, D], and the text embeddings of PACL's head [N, D], float32, of unit norm.
    """

    def mean(embedded: Tensor) -> Tensor:
        return F.normalize(rearrange(embedded, "(n k) d -> n k d", k=len(templates)).mean(dim=1), dim=-1)

    pooled, head = [], []
    step = max(1, TEXT_BATCH // len(templates))
    for first in tracked(range(0, len(prompts), step), title):
        texts = [fill(template, prompt) for prompt in prompts[first : first + step] for template in templates]
        embedded = model.clip.encode_text(texts)
        pooled.append(mean(embedded))
        head.append(mean(F.normalize(model.text_embedder(embedded), dim=-1)))
    return torch.cat(pooled), torch.cat(head)


# --- Features for probes --------------------------------------------------------------------------


def cached_features(
    model: PACL, images: ImageSet, folder: Path, loading: Loading, title: str = ""
) -> dict[str, Tensor]:
    """Compute `features` of all images, or read them from a cache.

    Args:
        model: the model.
        images: the images.
        folder: folder of the cache. The name of a file contains a digest of everything that its content depends on:
            the model (see `pacl.models.identity`), the precision, the images and their order.
        loading: how images are read and encoded.
        title: title of the progress bar.

    Returns:
        The features of all images, float32 on the CPU, with the keys of `features`.

    Raises:
        UserError: an image cannot be read.
    """
    stamp = {
        "model": identity.digest({"pooled": made_by(model, "pooled"), "patches": made_by(model, "patches")}),
        "precision": resolve_precision(loading.precision, model.clip),
        "dataset": images.benchmark.name,
        "split": images.split,
        "images": str(len(images)),
        "pictures": images.digest(),
    }
    digest = hashlib.sha256(repr(sorted(stamp.items())).encode()).hexdigest()[:16]
    path = folder / f"{images.benchmark.name}-{images.split}-{digest}.safetensors"
    if (cached := _read(path, len(images))) is not None:
        return cached
    parts: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for squares, _ in load_batches(images, model, loading, title):
        for kind, part in features(model, squares, loading.precision).items():
            parts[kind].append(part.cpu())
    found = {kind: torch.cat(part).contiguous() for kind, part in parts.items()}
    if not _finite(found):
        raise UserError(f"{images.benchmark.name}: the model's features are not finite; is it damaged?")
    with atomic_write(path) as aside:
        save_file(found, aside, metadata={**stamp, CONTENT: _content(found)})
    return found


def _read(path: Path, count: int) -> dict[str, Tensor] | None:
    """The features of a file of the cache; None if there is none, or it is damaged: they are then computed again."""
    try:
        with safe_open(path, framework="pt") as file:
            found = {kind: file.get_tensor(kind) for kind in KINDS}
            content = (file.metadata() or {}).get(CONTENT)
    except (OSError, SafetensorError):
        return None
    whole = all(len(each) == count for each in found.values()) and _finite(found)
    return found if whole and content == _content(found) else None


def _finite(found: dict[str, Tensor]) -> bool:
    return all(bool(each.isfinite().all()) for each in found.values())


def _content(found: dict[str, Tensor]) -> str:
    """SHA-256 of the features."""
    digest = hashlib.sha256()
    for kind in KINDS:
        digest.update(found[kind].contiguous().numpy().tobytes())
    return digest.hexdigest()
