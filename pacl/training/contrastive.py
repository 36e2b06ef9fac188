"""Pretraining of dual encoders: CLIP's loss over the image-text pairs of all processes, and the export of the model.

Shapes: B images and T texts of this process, D embedding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor, nn

from pacl.distributed import gather_texts, rank_count
from pacl.errors import UserError
from pacl.files import make_folder
from pacl.models.model import MAX_LOGIT_SCALE
from pacl.training.loss import contrastive_loss, in_batch_accuracy
from pacl.training.optimizer import check_least


class ContrastiveModule(L.LightningModule, ABC):
    """A dual encoder that is trained with the contrastive loss of CLIP (Radford et al., 2021, figure 3).

    Batches are dictionaries: ``"images"`` (uint8 [B, 3, H, W]), ``"texts"`` (T strings, no two of them equal) and,
    unless text i belongs to image i alone, ``"positives"`` (bool [B, T]).
    """

    @abstractmethod
    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Unit vectors of the images and of the texts, float32 [B, D] and [T, D]."""

    @property
    @abstractmethod
    def log_scale(self) -> nn.Parameter:
        """Logarithm of the logit scale, a scalar."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side in pixels of the square images that the data module must yield."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the model to a folder that ``local-dir:FOLDER`` loads, each file atomically."""

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        images, texts = self(batch)  # [B, D], [T, D], of this process
        texts, positives = gather_texts(batch["texts"], texts, batch.get("positives"))
        logits = self.log_scale.exp() * images @ texts.T  # [B, T of all processes]
        loss = contrastive_loss(logits, positives, over_ranks=True)
        if not loss.isfinite():
            raise UserError(f"the loss is {float(loss.detach())} at step {self.global_step}: lower the learning rate")
        accuracy = in_batch_accuracy(logits, positives)
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, batch_size=len(images))
        self.log("logit_scale", self.log_scale.exp())
        return loss * rank_count()  # DDP averages the gradients, which must be summed

    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            self.log_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))

    def check_size(self, images: Tensor) -> None:
        """Raise a `UserError` unless the images [B, 3, H, W] are squares of side `image_size`."""
        h, w = images.shape[-2:]
        if (h, w) != (self.image_size, self.image_size):
            raise UserError(f"the images are {h} x {w} pixels, but the model takes squares of {self.image_size}")


class Export(L.Callback):
    """Writes the model every ``every`` steps and at the end.

    Args:
        folder: where to; a model that is there is replaced.
        every: steps between two exports; 0 exports at the end only.
    """

    def __init__(self, folder: str = "runs/clip", every: int = 250) -> None:
        check_least(locals(), every=0)
        self.folder, self.every = folder, every

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        make_folder(self.folder, "export.folder")

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if self.every and trainer.global_step % self.every == 0:
            self.on_train_end(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, ContrastiveModule)
        if trainer.is_global_zero:
            module.save(self.folder)
