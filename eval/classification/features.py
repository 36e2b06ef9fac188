"""What a model says of pictures as a whole: the one place where pictures pass its image tower.

Shapes: B I images, P patches, D embedding, W token width, C classes, N prompts, S side of the squares in pixels.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

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
from pacl.errors import UserError
from pacl.files import written_whole
from pacl.models.backbone import weights_checksum
from pacl.models.model import PACL
from pacl.models.precision import tower_autocast
from pacl.models.towers.open_clip_towers import ViTTower
from pacl.prompts import fill

Item = TypeVar("Item")
KINDS = ("pooled", "patches")
TEXTS = 640  # that are embedded at a time, or those of one class
MANY = 1000  # texts, which take their time


class Squares(Dataset[tuple[Tensor, str]]):
    """Pictures as this CLIP's own preprocessing makes them: float32 [3, S, S], and what is wrong with it, if anything.

    Attributes:
        read: number -> picture, uint8 [H, W, 3].
        count: pictures.
    """

    def __init__(self, read: Callable[[int], np.ndarray], count: int, model: PACL) -> None:
        self.read, self.count = read, count
        self.size, self.transform = model.clip.size, preprocessing(model)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        try:
            return self.transform(Image.fromarray(self.read(index))), ""
        except UserError as error:  # told, not raised: a worker's error would arrive with its traceback in it
            return torch.zeros(3, self.size, self.size), str(error)


def preprocessing(model: PACL) -> Callable[[Image.Image], Tensor]:
    """open_clip's own of this CLIP, to the pixel: resize (or squash), centre crop, normalise, to float32 [3, S, S]."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.clip.preprocessing), is_train=False)


def batches(
    images: ImageSet, model: PACL, batch: int, workers: int, title: str = ""
) -> Iterator[tuple[Tensor, Tensor]]:
    """The pictures in order: normalised [B, 3, S, S] at the CLIP's native size, and int64 [B] classes.

    Raises:
        UserError: A picture cannot be read; a benchmark without it would be another one.
    """
    squares = square_batches(
        Squares(images.read, len(images), model), model, batch, workers, images.benchmark.name, title
    )
    for part, labels in zip(squares, torch.from_numpy(images.labels).split(batch), strict=True):
        yield part, labels.to(model.device)


def square_batches(
    squares: Squares, model: PACL, batch: int, workers: int, name: str, title: str = ""
) -> Iterator[Tensor]:
    """Squares in order, [B, 3, S, S] on the model's device, with a bar of progress; ``name`` tells whose they are.

    Raises:
        UserError: A picture cannot be read.
    """
    loader = DataLoader(squares, batch_size=batch, num_workers=workers)
    for pixels, problems in tracked(loader, title):
        if bad := next(filter(None, problems), None):
            raise UserError(f"{name}: {bad}")
        yield pixels.to(model.device)


def tracked(items: Iterable[Item], title: str) -> Iterable[Item]:
    """The items, with a bar of progress on standard error if that is a terminal, which is gone at their end."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, title, console=console, transient=True, disable=not console.is_terminal)


@torch.inference_mode()
def embed(model: PACL, images: Tensor, precision: str = "fp32") -> tuple[Tensor, Tensor]:
    """CLIP's pooled embedding [B, D] and PACL's patch embeddings [B, P, D], all of unit norm, in one pass.

    Args:
        model: the model.
        images: normalised squares [B, 3, S, S] at the CLIP's native size.
        precision: of the image tower: ``fp32``, ``bf16`` or ``auto``.
    """
    with tower_autocast(precision, model.clip):
        pooled, tokens = model.clip.encode_image_and_tokens(images, model.config.dense)
    return F.normalize(pooled.float(), dim=-1), model.embed_tokens(tokens.float())


def class_texts(
    model: PACL, prompts: Sequence[str], templates: Sequence[str], title: str = ""
) -> tuple[Tensor, Tensor]:
    """Prompts in templates: the mean of their K unit embeddings, normalised again.

    Args:
        model: whose text tower it is; each text passes it once, with a bar of progress.
        prompts: N prompts.
        templates: K templates.
        title: what the prompts are, for the bar.

    Returns:
        CLIP's embeddings [N, D], and those of PACL's head [N, D].
    """

    def mean(embedded: Tensor) -> Tensor:
        return F.normalize(rearrange(embedded, "(n k) d -> n k d", k=len(templates)).mean(dim=1), dim=-1)

    pooled, head = [], []
    step = max(1, TEXTS // len(templates))
    count = len(prompts) * len(templates)
    words = f"{count:,} texts{title}"
    if count >= MANY and not sys.stderr.isatty():  # where there is no bar
        print(f"embedding {words}", file=sys.stderr)
    for first in tracked(range(0, len(prompts), step), words):
        texts = [fill(template, prompt) for prompt in prompts[first : first + step] for template in templates]
        embedded = model.clip.encode_text(texts)
        pooled.append(mean(embedded))
        head.append(mean(F.normalize(model.text_embedder(embedded), dim=-1)))
    return torch.cat(pooled), torch.cat(head)


# --- features for probes --------------------------------------------------------------------------


@torch.inference_mode()
def features(model: PACL, images: Tensor, precision: str = "fp32") -> dict[str, Tensor]:
    """Vectors for a linear classifier.

    ``pooled`` is what the CLIP paper probes (Radford et al., 2021, appendix A.3): the class token after the last
    layer norm, BEFORE the projection, of any length, [B, W]; towers that have no class token or no linear projection
    (ResNets, timm's) give their pooled embedding [B, D] instead, of unit norm. ``patches`` is the mean of PACL's unit
    patch embeddings, of unit norm, [B, D].
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


def kept_features(
    model: PACL, images: ImageSet, folder: Path, *, batch: int, workers: int, precision: str, title: str = ""
) -> dict[str, Tensor]:
    """`features` of all pictures, float32 in host memory; kept in a file, and read from it the next time.

    The file's name is a digest of all that decides its content: weights of CLIP and head, dense variant, arithmetic,
    pictures and their order.
    """
    stamp = _stamp(model, images, precision)
    digest = hashlib.sha256(repr(sorted(stamp.items())).encode()).hexdigest()[:16]
    path = folder / f"{images.benchmark.name}-{images.split}-{digest}.safetensors"
    if path.is_file():
        try:
            found = load_file(path)
            if all(len(found[kind]) == len(images) for kind in KINDS):
                return found
        except (OSError, SafetensorError, KeyError):
            pass  # a damaged file is made again
    parts: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for squares, _ in batches(images, model, batch, workers, title):
        for kind, part in features(model, squares, precision).items():
            parts[kind].append(part.cpu())
    found = {kind: torch.cat(part).contiguous() for kind, part in parts.items()}
    with written_whole(path) as aside:
        save_file(found, aside, metadata=stamp)
    return found


def _stamp(model: PACL, images: ImageSet, precision: str) -> dict[str, str]:
    return {
        "clip": model.config.checksum,
        "head": weights_checksum(model.head_state()),
        "dense": model.config.dense,
        "precision": precision,
        "dataset": images.benchmark.name,
        "split": images.split,
        "images": str(len(images)),
        "pictures": images.digest(),
    }
