"""What one step of training does: frozen tokens and texts in, the contrastive loss over phi out.

Only the patch embedder, the pooling temperature, the logit scale and (if asked for) a linear text embedder train.
Shapes: B images, T texts, P patches, W token width, D embedding.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from pacl.backbone import FrozenCLIP, load_clip
from pacl.compatibility import pooling_entropy
from pacl.errors import UserError
from pacl.loss import contrastive_loss, in_batch_accuracy
from pacl.model import MAX_LOGIT_SCALE, PACL
from pacl.schedule import warmup_cosine


class PACLModule(LightningModule):
    """Patch Aligned Contrastive Learning on a frozen CLIP.

    Batches are dictionaries: ``"images"`` (uint8 or float in [0, 1], [B, 3, H, W]) or ``"tokens"`` (frozen patch
    tokens [B, P, W], if they were computed before), ``"texts"`` (T raw strings) and, unless text i belongs to
    image i alone, ``"positives"`` (bool [B, T], true where the text is right for the image).

    Args:
        backbone: the frozen CLIP: "bundled", "open_clip:NAME/TAG", "hf-hub:ORG/REPO", "local-dir:PATH".
        dense: variant of the last block that the patch tokens come from: clip, value, maskclip, sclip, clearclip
            or naclip. The paper's is clip.
        start: of the patch embedder: "clip" is CLIP's own visual projection, "paper" random weights.
        hidden: width of the embedder's hidden layer; null makes it as wide as the embedding.
        temperature: of the softmax that pools patches; 1.0 is the formula as published, .inf mean pooling.
        learn_temperature: train the temperature, from the value above.
        cosine: whether phi re-normalises the pooled vector (else it is their inner product).
        text: "identity" keeps CLIP's text embedding, "linear" trains a linear layer on top of it.
        logit_scale: what phi is multiplied by at the start, in the loss; it is trained, up to 100.
        contrast_margin: stored with the head: cosine by which the words that compete with a single prompt must be
            ahead of it to win a pixel. It does not touch training; ``python -m eval.single_prompt`` measures it.
        patches: this many patches of each image, drawn anew every step, are used; null uses all.
        lr: peak learning rate of AdamW.
        scale_lr: the logit scale's and the temperature's own learning rate (they train as logarithms).
        weight_decay: of weight matrices; biases, scale and temperature are not decayed.
        betas: AdamW's.
        eps: AdamW's.
        warmup: steps over which the learning rate rises linearly; after them it falls to 0 as a cosine.
    """

    def __init__(
        self,
        backbone: str = "bundled",
        dense: str = "value",
        start: Literal["clip", "paper"] = "clip",
        hidden: int | None = None,
        temperature: float = 0.1,
        learn_temperature: bool = False,
        cosine: bool = True,
        text: Literal["identity", "linear"] = "identity",
        logit_scale: float = 1 / 0.07,
        contrast_margin: float = 0.0,
        patches: int | None = None,
        lr: float = 5e-4,
        scale_lr: float = 1e-2,
        weight_decay: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        warmup: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.strict_loading = False  # checkpoints leave out the frozen towers
        self.pacl = PACL.untrained(
            self.load_backbone(backbone),
            dense=dense,
            start=start,
            hidden=hidden,
            temperature=temperature,
            learn_temperature=learn_temperature,
            cosine=cosine,
            text=text,
            logit_scale=logit_scale,
            contrast_margin=contrast_margin,
        )
        self._last_step = 0.0

    @staticmethod
    def load_backbone(name: str) -> FrozenCLIP:
        """The frozen CLIP; who trains many heads on one overrides this, to load and to read its texts once."""
        return load_clip(name)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """The loss of one batch, logged beside what tells a healthy run from a sick one."""
        tokens = batch["tokens"] if "tokens" in batch else self.frozen_tokens(batch["images"])  # [B, P, W]
        if len(tokens) < 2:
            raise UserError("--data batch size: 1 image has nothing to be contrasted with; use 2 or more")
        if self.hparams["patches"]:
            tokens = some_patches(tokens, self.hparams["patches"])
        positives = batch.get("positives")
        v = self.pacl.embed_tokens(tokens.to(self.dtype))  # [B, P, D]
        t = self.pacl.encode_text(batch["texts"])  # [T, D]
        phi = self.pacl.phi(v, t)  # [B, T]
        loss = contrastive_loss(self.pacl.logit_scale * phi, positives)
        if not loss.isfinite():
            raise UserError(f"the loss is {float(loss.detach())} at step {self.global_step}: try a lower --model.lr")

        own = t if positives is None else t[positives.int().argmax(1)]  # each image's first right text [B, D]
        self.log("loss", loss, prog_bar=True)
        self.log("accuracy", in_batch_accuracy(phi.detach(), positives), prog_bar=True)
        self.log("logit_scale", self.pacl.logit_scale)
        self.log("temperature", self.pacl.temperature)
        self.log("pooling_entropy", pooling_entropy(v.detach(), own.detach(), self.pacl.temperature))
        now = time.perf_counter()
        if self._last_step:
            self.log("images_per_second", len(tokens) / (now - self._last_step))
        self._last_step = now
        return loss

    @torch.no_grad()
    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Patch tokens [B, P, W] of images [B, 3, H, W] by the frozen tower."""
        tokens, _ = self.pacl.clip.patch_tokens(self.pacl.clip.normalize(images), self.hparams["dense"])
        return tokens

    def configure_optimizers(self) -> Any:
        """AdamW with three groups (weights, biases, scalars) under one schedule: linear warm-up, then cosine."""
        hp = self.hparams
        trained = [parameter for parameter in self.pacl.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "lr": hp["lr"], "weight_decay": hp["weight_decay"]},
            {"params": [p for p in trained if p.ndim == 1], "lr": hp["lr"]},
            {"params": [p for p in trained if p.ndim == 0], "lr": hp["scale_lr"]},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=tuple(hp["betas"]),
            eps=hp["eps"],
            weight_decay=0.0,
        )
        steps = int(self.trainer.estimated_stepping_batches)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(hp["warmup"], steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_end(self, *_: Any) -> None:
        """Clamp the parameter itself: past a clamp in the forward pass its gradient would be zero for good."""
        with torch.no_grad():
            self.pacl.log_logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def train(self, mode: bool = True) -> PACLModule:
        """The frozen towers stay in eval mode whatever the loop asks for."""
        super().train(mode)
        self.pacl.clip.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains; the frozen CLIP is named by the hyper-parameters."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}


def some_patches(tokens: Tensor, count: int) -> Tensor:
    """``count`` patches of each image, drawn at random without replacement: [B, P, W] -> [B, count, W]."""
    B, P, W = tokens.shape
    if count >= P:
        return tokens
    drawn = torch.rand(B, P, device=tokens.device).topk(count, dim=1).indices  # [B, count]
    return tokens.gather(1, drawn.unsqueeze(-1).expand(-1, -1, W))
