"""Dual encoders: two pretrained towers with projection heads into a shared embedding space, and their file format.

A saved dual encoder is a folder with ``dual_config.json``, which names the towers, and ``dual.safetensors`` with the
heads and the weights of fine-tuned towers. Frozen towers are loaded by name and verified by checksum.

Shapes: B images, T texts, P patches, W token width of the image tower, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write
from pacl.models.config import SavedConfig
from pacl.models.towers.base import ImageTower, TextTower, local_path, weights_checksum
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.hub import fail_fast, first_line
from pacl.models.towers.registry import load_image_tower, load_text_tower

CONFIG, WEIGHTS = "dual_config.json", "dual.safetensors"
PROJECTIONS = ("linear", "mlp")


class MLPHead(nn.Module):
    """Projection head with one hidden layer: LayerNorm(y + Dropout(Linear(GELU(y)))) with y = Linear(x).

    Args:
        width: width of the input.
        dim: width of the output.
        dropout: dropout probability after the second layer.
    """

    def __init__(self, width: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.projection = nn.Linear(width, dim)
        self.layer = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., dim]."""
        y = self.projection(x)
        return self.norm(y + self.dropout(self.layer(F.gelu(y))))


def projection_head(kind: str, width: int, dim: int, dropout: float = 0.0) -> nn.Linear | MLPHead:
    """A head of a kind in `PROJECTIONS`: ``linear`` is CLIP's, one layer without bias and without dropout."""
    if kind not in PROJECTIONS:
        raise ArgumentError("projection", kind, f"choose from {', '.join(PROJECTIONS)}")
    return nn.Linear(width, dim, bias=False) if kind == "linear" else MLPHead(width, dim, dropout)


def mean_of_tokens(tower: ImageTower, images: Tensor) -> Tensor:
    """Mean of the patch tokens of normalised images [B, 3, H, W]: [B, W]."""
    (tokens,), _ = tower(images, tower.variants[:1])
    return tokens.mean(dim=1)


class ProjectedImageTower(ImageTower):
    """An image tower with a head that projects its mean patch token into the shared space.

    Args:
        tower: the tower. The head uses its final features alone, not those of earlier `layers`.
        head: head from the final features to the shared space.
        size: side in pixels of the square images that the head was trained on.
    """

    def __init__(self, tower: ImageTower, head: nn.Linear | MLPHead, size: int) -> None:
        super().__init__()
        self.tower, self.head, self.size = tower, head, size
        self.width, self.patch, self.variants, self.layers = tower.width, tower.patch, tower.variants, tower.layers
        self.quick_gelu, self.architecture, self.classifier = tower.quick_gelu, tower.architecture, tower.classifier
        self.preprocessing = {**tower.preprocessing, "size": size}

    @property
    def projection(self) -> Tensor | None:
        """A linear head as [W, D], with zeros for the columns of earlier layers; None for another head."""
        if isinstance(self.head, MLPHead):
            return None
        return F.pad(self.head.weight.T, (0, 0, self.width - self.head.in_features, 0))

    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        return self.tower(images, variants, stride, positions)

    def pooled(self, images: Tensor) -> Tensor:
        return self._project(mean_of_tokens(self.tower, images))

    def pooled_and_tokens(self, images: Tensor, variant: str) -> tuple[Tensor, Tensor]:
        first = self.variants[0]
        both, _ = self.tower(images, list(dict.fromkeys([first, variant])))
        return self._project(both[0].mean(dim=1)), both[-1]

    def _project(self, token: Tensor) -> Tensor:
        first = self.head.projection if isinstance(self.head, MLPHead) else self.head
        return self.head(token[..., -first.in_features :])

    def weights(self) -> Mapping[str, Tensor]:
        return _prefixed("image", self.tower, self.head)


class ProjectedTextTower(TextTower):
    """A text tower with a head that projects its unit embeddings into the shared space.

    Args:
        tower: the tower.
        head: head from its embeddings to the shared space.
        dim: width D of that space.
    """

    def __init__(self, tower: TextTower, head: nn.Linear | MLPHead, dim: int) -> None:
        super().__init__()
        self.tower, self.head, self.dim = tower, head, dim
        self.context_length, self.quick_gelu = tower.context_length, tower.quick_gelu
        self.architecture = tower.architecture
        self.vocabulary, self.contrast = tower.vocabulary, tower.contrast

    def encode(self, texts: Sequence[str]) -> Tensor:
        return self.head(F.normalize(self.tower.encode(texts).float(), dim=-1))

    def count_tokens(self, text: str) -> int:
        return self.tower.count_tokens(text)

    def bucket(self, text: str) -> Any:
        return self.tower.bucket(text)

    def weights(self) -> Mapping[str, Tensor]:
        return _prefixed("text", self.tower, self.head)


def _prefixed(side: str, tower: ImageTower | TextTower, head: nn.Module) -> dict[str, Tensor]:
    return {f"{side}_tower.{key}": value for key, value in tower.weights().items()} | {
        f"{side}_head.{key}": value for key, value in head.state_dict().items()
    }


@dataclass(frozen=True)
class DualConfig(SavedConfig):
    """Configuration of a saved dual encoder: its ``dual_config.json``.

    Attributes:
        image: name of the image tower for `pacl.models.towers.registry.load_image_tower`.
        text: name of the text tower for `pacl.models.towers.registry.load_text_tower`.
        image_checksum: `weights_checksum` of the image tower, before fine-tuning.
        text_checksum: `weights_checksum` of the text tower, before fine-tuning.
        projection: ``linear`` or ``mlp``, the kind of both heads.
        width: input width of the image head, the width of the image tower's final features.
        text_width: input width of the text head.
        dim: embedding width D.
        size: side in pixels of the square training images.
        mean: per-channel mean that images are normalised with, in [0, 1].
        std: per-channel standard deviation.
        logit_scale: inverse temperature of the loss.
        image_tuned: whether the weight file contains a fine-tuned image tower.
        text_tuned: whether it contains a fine-tuned text tower.
    """

    FORMAT: ClassVar[str] = "pacl-dual"

    image: str
    text: str
    image_checksum: str
    text_checksum: str
    projection: str
    width: int
    text_width: int
    dim: int
    size: int
    mean: list[float]
    std: list[float]
    logit_scale: float
    image_tuned: bool = False
    text_tuned: bool = False

    @classmethod
    def from_json(cls, text: str, source: str) -> DualConfig:
        """As `SavedConfig.from_json`; ``projection`` and ``logit_scale`` are checked too."""
        config = super().from_json(text, source)
        if config.projection not in PROJECTIONS:
            raise UserError(f"{source}: projection {config.projection} must be one of {', '.join(PROJECTIONS)}")
        if not 0 < config.logit_scale < math.inf:
            raise UserError(f"{source}: logit_scale {config.logit_scale} must be above 0 and finite")
        return config


def save_dual(folder: str | Path, config: DualConfig, image: ProjectedImageTower, text: ProjectedTextTower) -> None:
    """Write a folder that ``local-dir:FOLDER`` loads, or ``hf-hub:ORG/REPO`` after an upload.

    Each file is written atomically, the weights first.

    Raises:
        UserError: the folder cannot be written.
    """
    weights = {
        key: value.detach().cpu().contiguous().clone()  # (tensors that share memory cannot be saved)
        for key, value in {**image.weights(), **text.weights()}.items()
        if _is_saved(key, config)
    }
    with atomic_write(Path(folder) / WEIGHTS) as aside:
        aside.write_bytes(save(weights, metadata={"format": "pt"}))
    with atomic_write(Path(folder) / CONFIG) as aside:
        aside.write_text(config.to_json(), encoding="utf-8")


def _is_saved(key: str, config: DualConfig) -> bool:
    tuned = {"image_tower": config.image_tuned, "text_tower": config.text_tuned}
    return tuned.get(key.partition(".")[0], True)


def find_dual(name: str) -> tuple[Path, Path] | None:
    """Configuration and weight file of ``local-dir:PATH`` or ``hf-hub:ORG/REPO``; ``None`` if it is no dual encoder.

    Raises:
        ArgumentError: a repository has the configuration, but its weights cannot be downloaded.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "local-dir" and rest:
        folder = local_path(rest, name).resolve()
        return (folder / CONFIG, folder / WEIGHTS) if (folder / CONFIG).is_file() else None
    if scheme == "hf-hub" and rest.count("/") == 1:
        with fail_fast():
            try:
                config = Path(hf_hub_download(rest, CONFIG))
            except Exception:  # not there, no network (many types): the loader of CLIPs raises an error then
                return None
            try:
                return config, Path(hf_hub_download(rest, WEIGHTS))
            except Exception as error:
                raise ArgumentError(
                    "model", name, f"its {WEIGHTS} cannot be downloaded ({first_line(error)}); connect once to cache it"
                ) from error
    return None


def load_dual(
    name: str, files: tuple[Path, Path], *, quick_gelu: bool | None = None, layers: Sequence[int] = ()
) -> tuple[ImageTower, TextTower, str, float]:
    """Load what `save_dual` wrote: both towers, the name with absolute paths, and the logit scale.

    Args:
        name: the name of the backbone.
        files: the result of `find_dual`.
        quick_gelu: see `pacl.models.backbone.load_backbone`.
        layers: see `pacl.models.backbone.load_backbone`; the heads use the final features alone.

    Raises:
        UserError: the files are damaged or do not belong together, or a tower cannot be loaded or has other weights
            than those the heads were trained on.
    """
    config_path, weights_path = files
    config = DualConfig.read(config_path)
    try:
        saved = load_file(weights_path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights_path}: cannot be read ({error}); save or download it again") from error
    image_tower, _ = load_image_tower(config.image, quick_gelu=quick_gelu, layers=layers)
    text_tower, _ = load_text_tower(config.text, quick_gelu=quick_gelu)
    for tower, tower_name, expected in (
        (image_tower, config.image, config.image_checksum),
        (text_tower, config.text, config.text_checksum),
    ):
        if (found := weights_checksum(tower.weights())) != expected:
            raise UserError(
                f"{config_path}: its heads were trained on other weights of {tower_name} "
                f"(checksum {expected[:12]}, got {found[:12]}); use those"
            )
    if any(not 0 < size < 2**16 for size in (config.width, config.text_width, config.dim)):
        raise UserError(f"{config_path}: has sizes that no tower has; the file is damaged, download it again")
    image = ProjectedImageTower(image_tower, projection_head(config.projection, config.width, config.dim), config.size)
    image.preprocessing |= {"mean": config.mean, "std": config.std}
    text = ProjectedTextTower(text_tower, projection_head(config.projection, config.text_width, config.dim), config.dim)
    wanted = {key: value for key, value in {**image.weights(), **text.weights()}.items() if _is_saved(key, config)}
    if {key: value.shape for key, value in saved.items()} != {key: value.shape for key, value in wanted.items()}:
        raise UserError(f"{weights_path}: its tensors do not match {CONFIG}; the files are of different models")
    if not all(value.isfinite().all() for value in saved.values()):
        raise UserError(f"{weights_path}: contains values that are not finite; train it again")
    with torch.no_grad():
        for key, value in wanted.items():  # (these tensors are the module's own)
            value.copy_(saved[key])
    if name.startswith("local-dir:"):
        name = f"local-dir:{config_path.parent}"  # absolute: a head that names it must work from elsewhere too
    return image, text, name, config.logit_scale
