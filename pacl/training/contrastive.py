"""What both pretrainings share: CLIP's loss over the image-text pairs of all processes.

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

from pacl.distributed import gather_rows, merge_texts, rank_count
from pacl.errors import UserError
from pacl.models.model import MAX_LOGIT_SCALE
from pacl.training.loss import contrastive_loss, in_batch_accuracy


class ContrastiveModule(L.LightningModule, ABC):
    """A dual encoder that is trained with the contrastive loss of CLIP (Radford et al., 2021, figure 3).

    Batches are dictionaries: ``"images"`` (uint8 [B, 3, H, W]), ``"texts"`` (T strings, each once) and, unless text i
    is image i's, ``"positives"`` (bool [B, T]).
    """

    rate_flag = "--model.learning_rate"
    """Names the learning rate in messages."""
    size_flag = "--model.size"
    """Names the side of the images in messages."""

    @abstractmethod
    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Unit vectors of the images and of the texts, float32 [B, D] and [T, D]."""

    @property
    @abstractmethod
    def log_scale(self) -> nn.Parameter:
        """Logarithm of what cosines are multiplied by in the loss, a scalar."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side in pixels of the square images that data modules are to yield."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the model as a folder that ``local-dir:FOLDER`` loads; each file is written whole or not at all."""

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        images, texts = self(batch)  # [B, D], [T, D], of this process
        rows, positives = merge_texts(batch["texts"], positives_of(batch, images))
        texts = gather_rows(texts)
        logits = self.log_scale.exp() * images @ (texts if rows is None else texts[rows]).T  # [B, T]
        loss = contrastive_loss(logits, positives, over_ranks=True)
        if not loss.isfinite():
            raise UserError(
                f"the loss is {float(loss.detach())} at step {self.global_step}: try a lower {self.rate_flag}"
            )
        accuracy = in_batch_accuracy(logits, positives)
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, batch_size=len(images))
        self.log("logit_scale", self.log_scale.exp())
        return loss * rank_count()  # DDP averages the gradients that are to be summed

    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            self.log_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))

    def check_size(self, images: Tensor) -> None:
        """Raise a `UserError` unless the images [B, 3, H, W] are squares of side `image_size`."""
        h, w = images.shape[-2:]
        if (h, w) != (self.image_size, self.image_size):
            raise UserError(f"{self.size_flag} {self.image_size}: the data's pictures are {h} x {w} pixels")


def positives_of(batch: dict[str, Any], images: Tensor) -> Tensor:
    """Which texts are right for which images, bool [B, T]: without a word of it, text i for image i alone."""
    own = batch.get("positives")
    return torch.eye(len(images), dtype=torch.bool, device=images.device) if own is None else own
