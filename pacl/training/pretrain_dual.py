"""Pretraining of a dual encoder: projection heads on a pretrained image tower and a pretrained text tower.

Each tower is frozen or fine-tuned at its own learning rate.

Shapes: B images and T texts of this process, W token width of the image tower, D embedding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pacl.data.crop import SquareCrop
from pacl.data.pairs import PairSource
from pacl.data.token_stamp import Stamp
from pacl.errors import ArgumentError
from pacl.models.backbone import load_backbone
from pacl.models.dual import (
    DualConfig,
    ProjectedImageTower,
    ProjectedTextTower,
    mean_of_tokens,
    projection_head,
    save_dual,
)
from pacl.models.towers.base import weights_checksum
from pacl.models.towers.registry import split_name
from pacl.training import limits
from pacl.training.contrastive import ContrastiveModule

CPU_BATCH = 8
"""Images per pass of a frozen tower on a CPU; with 64 a convolutional one takes half as long again."""

EMBED_FIRST = 50_000
"""Largest number of training images whose captions are all embedded before the first step."""


class DualEncoderModule(ContrastiveModule):
    """Trains a projection head on each of two pretrained towers, and the towers where they have a learning rate.

    The vector of an image is the projection of its mean patch token. If the image tower is frozen and images are
    cropped without randomness, the data module's ``cache`` keeps these means, 2 W bytes per image, and later epochs do
    not run the tower. A fine-tuned tower may have parameters that get no gradient, such as those of a classifier: with
    several processes use Lightning's strategy ``ddp_find_unused_parameters_true``.

    Args:
        image: image tower, "timm:NAME" or an open_clip name.
        text: text tower, "st:ORG/NAME" or an open_clip name.
        dim: width D of the shared space.
        projection: kind of both heads: "linear" is one layer, as in CLIP; "mlp" is linear, GELU, linear, dropout,
            residual, LayerNorm. With "linear" the model segments images without further training and a patch
            embedder can start from the projection (start: clip); with "mlp" one must be trained (start: paper).
        dropout: of mlp heads.
        size: side of the square images in pixels; null takes that of the image tower.
        temperature: of the loss at the start of training, in [0.01, 1]; it is learned, as in CLIP.
        image_lr: peak learning rate of the image tower; 0 freezes it.
        text_lr: peak learning rate of the text tower; 0 freezes it.
        head_lr: peak learning rate of the heads and the temperature.
        weight_decay: of weight matrices; gains and biases are not decayed.
        warmup: steps, at most a quarter of all, in which the learning rate rises linearly; then it falls as a cosine.
    """

    def __init__(
        self,
        image: str = "timm:tf_efficientnet_lite2.in1k",
        text: str = "st:sentence-transformers/all-MiniLM-L6-v2",
        dim: int = 256,
        projection: Literal["linear", "mlp"] = "linear",
        dropout: float = 0.1,
        size: int | None = None,
        temperature: float = 0.07,
        image_lr: float = 0.0,
        text_lr: float = 0.0,
        head_lr: float = 1e-3,
        weight_decay: float = 0.1,
        warmup: int = 150,
    ) -> None:
        super().__init__()
        limits.check_least(locals(), **limits.DUAL_ENCODER)
        if not 0.01 <= temperature <= 1:
            raise ArgumentError("temperature", temperature, "must be between 0.01 and 1, such as 0.07")
        self.save_hyperparameters()
        self.strict_loading = False  # checkpoints do not hold frozen towers
        self.rates = {"image": image_lr, "text": text_lr}
        self.head_lr, self.weight_decay, self.warmup = head_lr, weight_decay, warmup
        self.towers = load_backbone(f"{image}+{text}")
        width, text_width = self.towers.width, self.towers.dim
        image_name, text_name = split_name(self.towers.name) or (image, text)  # local paths are absolute there
        self.config = DualConfig(
            image=image_name,
            text=text_name,
            image_checksum=weights_checksum(self.towers.image.weights()),
            text_checksum=weights_checksum(self.towers.text.weights()),
            projection=projection,
            width=width,
            text_width=text_width,
            dim=dim,
            size=size or self.towers.size,
            mean=list(self.towers.mean),
            std=list(self.towers.std),
            logit_scale=1 / temperature,
            image_tuned=image_lr > 0,
            text_tuned=text_lr > 0,
        )
        self.image_head = projection_head(projection, width, dim, dropout)
        self.text_head = projection_head(projection, text_width, dim, dropout)
        self.scale = nn.Parameter(torch.tensor(1 / temperature).log())
        for side, rate in self.rates.items():
            getattr(self.towers, side).requires_grad_(rate > 0)
        self.train()

    @property
    def log_scale(self) -> nn.Parameter:
        return self.scale

    @property
    def image_size(self) -> int:
        return self.config.size

    def train(self, mode: bool = True) -> DualEncoderModule:
        """Set the mode; frozen towers stay in eval mode."""
        super().train(mode)
        for side, rate in self.rates.items():
            getattr(self.towers, side).train(mode and rate > 0)
        return self

    # ------------------------------------------------------------ embeddings

    def embed_images(self, batch: dict[str, Any]) -> Tensor:
        """Unit vectors, float32 [B, D], of ``"images"`` [B, 3, H, W] or of cached ``"tokens"`` [B, 1, W]."""
        if "tokens" in batch:
            means = batch["tokens"].squeeze(1)
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.image_tuned):
                means = self._means(batch["images"])
        return F.normalize(self.image_head(means.to(self.dtype)).float(), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, float32 [T, D]."""
        if self.config.text_tuned and texts:
            embedded = F.normalize(self.towers.text.encode(texts).float(), dim=-1)
        else:
            embedded = self.towers.encode_text(texts)  # cached: each text is encoded once
        return F.normalize(self.text_head(embedded).float(), dim=-1)

    def _means(self, images: Tensor) -> Tensor:
        """Mean patch tokens [B, W] of uint8 images."""
        self.check_size(images)
        if not len(images):  # no image of this process could be read
            return torch.empty(0, self.config.width, device=self.device)
        small = not self.config.image_tuned and images.device.type == "cpu"
        parts = images.split(CPU_BATCH if small else len(images))
        return torch.cat([mean_of_tokens(self.towers.image, self.towers.normalize(part)) for part in parts])

    # ------------------------------------------------------------ cached tokens

    @torch.no_grad()
    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Mean patch tokens [B, 1, W], to be cached."""
        return self._means(images).unsqueeze(1)

    @property
    def tower_precision(self) -> str:
        """Precision of the towers, which is that of the trainer: "fp32", "bf16" or "fp16"."""
        precision = "32" if self._trainer is None else str(self._trainer.precision).partition("-")[0]
        return precision if precision == "bf16" else f"fp{precision}"

    def token_stamp(self, size: int, crop: SquareCrop, source: PairSource, dtype: str) -> Stamp:
        """Everything that `frozen_tokens` of a source depend on.

        Raises:
            ArgumentError: the image tower is trained.
        """
        if self.config.image_tuned:
            rate = self.rates["image"]
            raise ArgumentError("image_lr", rate, "tokens of a tower that trains cannot be cached; set cache: null")
        stamp = Stamp.of(self.towers, self.towers.dense_variants[0], size, crop, source, dtype, self.tower_precision)
        return dataclasses.replace(stamp, dense=f"mean of {stamp.dense}", patches=1)

    # ------------------------------------------------------------ training

    def on_fit_start(self) -> None:
        """Embed all captions of a small data set at once, which fills the batches of texts of one length."""
        parts = getattr(getattr(self.trainer, "datamodule", None), "parts", None)
        if parts is None or self.config.text_tuned:
            return
        sources = parts()[0]
        if sum(map(len, sources)) <= EMBED_FIRST:
            self.towers.encode_text(
                [text for source in sources for i in range(len(source)) for text, _ in source.descriptions(i)]
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The towers and the heads (with the temperature) have their own learning rates."""
        trained = [
            (self.head_lr, [*self.image_head.parameters(), *self.text_head.parameters(), self.scale]),
            *((rate, list(getattr(self.towers, side).parameters())) for side, rate in self.rates.items() if rate),
        ]
        return [
            {"params": some, "lr": rate, "weight_decay": decay}
            for rate, parameters in trained
            for decay, some in (
                (self.weight_decay, [p for p in parameters if p.requires_grad and p.ndim > 1]),
                (0.0, [p for p in parameters if p.requires_grad and p.ndim < 2]),
            )
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the frozen towers: the hyper-parameters name them."""
        frozen = tuple(f"towers.{side}." for side, rate in self.rates.items() if not rate)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if not key.startswith(frozen)}

    def save(self, folder: str | Path) -> None:
        image = ProjectedImageTower(self.towers.image, self.image_head, self.config.size)
        text = ProjectedTextTower(self.towers.text, self.text_head, self.config.dim)
        config = dataclasses.replace(self.config, logit_scale=float(self.scale.detach().exp()))
        save_dual(folder, config, image, text)
