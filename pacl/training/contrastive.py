"""Pretraining of dual encoders: CLIP's loss over the image-text pairs of all processes, and the export of the model.

Shapes: B images and T texts of this process, D embedding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor, nn

from pacl.distributed import gather_texts, mean_over_ranks, rank_count, sum_over_ranks
from pacl.errors import UserError
from pacl.files import make_folder
from pacl.models.model import MAX_LOGIT_SCALE
from pacl.training.limits import check_least
from pacl.training.loss import contrastive_loss, in_batch_accuracy, without_negatives
from pacl.training.optimizer import adamw, shorten_warmup
from pacl.training.validation import RetrievalValidator

TEXT_BATCH = 256
"""Texts per pass of the text tower in validation."""


class ContrastiveModule(L.LightningModule, ABC):
    """A dual encoder that is trained with the contrastive loss of CLIP (Radford et al., 2021, figure 3).

    Batches are dictionaries: ``"images"`` (uint8 [B, 3, H, W]), ``"texts"`` (T strings, no two of them equal) and,
    unless text i belongs to image i alone, ``"positives"`` (bool [B, T]).

    Attributes:
        warmup: steps, at most a quarter of all, in which the learning rate rises linearly; then it falls as a cosine.
        chance: validation recall of a random order, by name; empty before the first validation.
    """

    warmup: int

    def __init__(self) -> None:
        super().__init__()
        self.chance: dict[str, float] = {}

    @abstractmethod
    def embed_images(self, batch: dict[str, Any]) -> Tensor:
        """Unit vectors of the images of a batch, float32 [B, D]."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, float32 [T, D]."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters in groups, with ``lr`` and ``weight_decay``."""

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

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """`embed_images` and `embed_texts` of a batch."""
        return self.embed_images(batch), self.embed_texts(batch["texts"])

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor | None:
        images, texts = self(batch)  # [B, D], [T, D], of this process
        if sum_over_ranks(torch.tensor(len(images), device=self.device)) < 2:
            return without_negatives(parameter for parameter in self.parameters() if parameter.requires_grad)
        texts, positives = gather_texts(batch["texts"], texts, batch.get("positives"))
        logits = self.log_scale.exp() * images @ texts.T  # [B, T of all processes]
        loss = contrastive_loss(logits, positives, over_ranks=True)
        if not loss.isfinite():
            raise UserError(f"the loss is {float(loss.detach())} at step {self.global_step}: lower the learning rate")
        self.log("loss", loss, prog_bar=True)
        accuracy = in_batch_accuracy(logits, positives) if len(images) else None
        self.log("accuracy", mean_over_ranks(accuracy, len(images), self.device), prog_bar=True)
        self.log("logit_scale", self.log_scale.exp())
        return loss * rank_count()  # DDP averages the gradients, which must be summed

    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            self.log_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))

    def on_validation_epoch_start(self) -> None:
        self._validator = RetrievalValidator()

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self._validator.add([self.embed_images(batch).unsqueeze(1)], batch["texts"], batch.get("positives"))

    def on_validation_epoch_end(self) -> None:
        """Log retrieval between all validation images and captions of all processes."""

        def embed(texts: Sequence[str]) -> Tensor:
            parts = (texts[i : i + TEXT_BATCH] for i in range(0, max(1, len(texts)), TEXT_BATCH))
            return torch.cat([self.embed_texts(part) for part in parts])

        for name, figure in self._validator.compute(embed, self.device).items():
            self.log(name, figure, prog_bar=name == "val_recall")
        self.chance = self._validator.chance
        self.log("val_recall_chance", self.chance["val_recall"])

    def configure_optimizers(self) -> Any:
        """AdamW with one schedule for all groups."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw(self.parameter_groups(), shorten_warmup(self.warmup, steps), steps)

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
        self._saved = -1  # the step of the model that is there

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if self.every and trainer.global_step % self.every == 0:
            self.on_train_end(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, ContrastiveModule)
        if trainer.is_global_zero and self._saved != trainer.global_step:
            module.save(self.folder)
            self._saved = trainer.global_step
