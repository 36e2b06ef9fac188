"""Image and text features of a model for whole images: the image tower runs here only.

Images are preprocessed as the CLIP was trained (open_clip's own transform), not as for segmentation: results are
compared with published ones.

Shapes: B I images, P patches, D embedding, W token width, N prompts, K templates, S side of square images.
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eval.classification.image_sets import ImageSet
from eval.common.progress import tracked
from pacl.errors import UserError
from pacl.files import atomic_write
from pacl.models.backbone import weights_checksum
from pacl.models.model import PACL
from pacl.models.precision import tower_autocast
from pacl.models.towers.open_clip_towers import ViTTower
from pacl.prompts import fill

KINDS = ("pooled", "patches")
TEXT_BATCH = 640


@dataclass(frozen=True)
class Loading:
    """How images are read and encoded.

    Attributes:
        batch: images at a time.
        workers: processes that read images.
        precision: of the image tower: ``fp32``, ``bf16`` or ``auto``.
    """

    batch: int = 64
    workers: int = 2
    precision: str = "fp32"


class SquareImages(Dataset[tuple[Tensor, str]]):
    """Preprocessed images float32 [3, S, S], each with an error message, "" if it could be read.

    Attributes:
        read: number -> image, uint8 [H, W, 3].
        count: number of images.
    """

    def __init__(self, read: Callable[[int], np.ndarray], count: int, model: PACL) -> None:
        self.read, self.count = read, count
        self.size, self.transform = model.clip.size, preprocessing(model)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        try:
            return self.transform(Image.fromarray(self.read(index))), ""
        except UserError as error:  # returned, because a worker's exception would contain its traceback
            return torch.zeros(3, self.size, self.size), str(error)


def preprocessing(model: PACL) -> Callable[[Image.Image], Tensor]:
    """open_clip's transform of this CLIP: resize (or squash), centre crop, normalise, to float32 [3, S, S]."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.clip.preprocessing), is_train=False)


def load_batches(images: ImageSet, model: PACL, loading: Loading, title: str = "") -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in order: normalised images [B, 3, S, S] at the CLIP's native size, and int64 [B] classes.

    Raises:
        UserError: an image cannot be read; it is not skipped, because the benchmark would be another one.
    """
    squares = SquareImages(images.read, len(images), model)
    labels = torch.from_numpy(images.labels).split(loading.batch)
    for part, own in zip(load_squares(squares, model, loading, images.benchmark.name, title), labels, strict=True):
        yield part, own.to(model.device)


def load_squares(squares: SquareImages, model: PACL, loading: Loading, name: str, title: str = "") -> Iterator[Tensor]:
    """Batches of images in order, [B, 3, S, S] on the model's device, with a progress bar.

    Args:
        squares: the images.
        model: whose device is used.
        loading: how images are read.
        name: the data set, for errors.
        title: of the progress bar.

    Raises:
        UserError: an image cannot be read.
    """
    loader = DataLoader(squares, batch_size=loading.batch, num_workers=loading.workers)
    for pixels, errors in tracked(loader, title):
        if error := next(filter(None, errors), None):
            raise UserError(f"{name}: {error}")
        yield pixels.to(model.device)


@torch.inference_mode()
def embed(model: PACL, images: Tensor, precision: str = "fp32") -> tuple[Tensor, Tensor]:
    """CLIP's pooled embedding [B, D] and PACL's patch embeddings [B, P, D], all of unit norm, in one pass.

    Args:
        model: the model.
        images: normalised images [B, 3, S, S] at the CLIP's native size.
        precision: of the image tower: ``fp32``, ``bf16`` or ``auto``.
    """
    with tower_autocast(precision, model.clip):
        pooled, tokens = model.clip.encode_image_and_tokens(images, model.config.dense)
    return F.normalize(pooled.float(), dim=-1), model.embed_tokens(tokens.float())


def class_embeddings(
    model: PACL, prompts: Sequence[str], templates: Sequence[str], title: str = "texts"
) -> tuple[Tensor, Tensor]:
    """Embeddings of prompts: for each the mean of its K unit embeddings in templates, normalised again.

    Args:
        model: the model.
        prompts: N prompts.
        templates: K templates.
        title: of the progress bar.

    Returns:
        CLIP's embeddings [N, D], and those of PACL's head [N, D].
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


@torch.inference_mode()
def features(model: PACL, images: Tensor, precision: str = "fp32") -> dict[str, Tensor]:
    """Features for a linear classifier.

    ``pooled``, [B, W], is what the CLIP paper probes (Radford et al., 2021, appendix A.3): the class token after the
    last layer norm, BEFORE the projection, not normalised; for towers without a class token or linear projection
    (ResNets, timm's) it is the pooled embedding [B, D], of unit norm. ``patches``, [B, D], is the mean of PACL's unit
    patch embeddings, of unit norm.
    """
    tower = model.clip.image
    caught: list[Tensor] = []
    hooks = []
    if isinstance(tower, ViTTower) and tower.visual.pool_type == "tok":
        hooks.append(tower.visual.ln_post.register_forward_hook(lambda module, inputs, output: caught.append(output)))
    try:
        pooled, patches = embed(model, images, precision)
    finally:
        for hook in hooks:
            hook.remove()
    if caught:  # the last call is that of the tower's own pooling
        pooled = caught[-1] if caught[-1].ndim == 2 else caught[-1][:, 0]
    return {"pooled": pooled.float(), "patches": F.normalize(patches.mean(dim=1), dim=-1)}


def cached_features(
    model: PACL, images: ImageSet, folder: Path, loading: Loading, title: str = ""
) -> dict[str, Tensor]:
    """`features` of all images, float32 on the CPU, cached in a file of ``folder``.

    The file's name holds a digest of all that decides its content: weights of CLIP and head, dense variant, precision,
    images and their order.
    """
    stamp = {
        "clip": model.clip.checksum(),
        "head": weights_checksum(model.head_state()),
        "dense": model.config.dense,
        "precision": loading.precision,
        "dataset": images.benchmark.name,
        "split": images.split,
        "images": str(len(images)),
        "pictures": images.digest(),
    }
    digest = hashlib.sha256(repr(sorted(stamp.items())).encode()).hexdigest()[:16]
    path = folder / f"{images.benchmark.name}-{images.split}-{digest}.safetensors"
    if path.is_file():
        try:
            found = load_file(path)
            if all(len(found[kind]) == len(images) for kind in KINDS):
                return found
        except (OSError, SafetensorError, KeyError):
            pass  # a damaged file is computed again
    parts: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for squares, _ in load_batches(images, model, loading, title):
        for kind, part in features(model, squares, loading.precision).items():
            parts[kind].append(part.cpu())
    found = {kind: torch.cat(part).contiguous() for kind, part in parts.items()}
    with atomic_write(path) as aside:
        save_file(found, aside, metadata=stamp)
    return found
