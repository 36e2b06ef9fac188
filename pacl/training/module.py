"""What one step of training does: frozen tokens and texts in, the contrastive loss over phi out.

Only the patch embedder, the pooling temperature, the logit scale and (if asked for) a linear text embedder train.
Shapes: B images, T texts, P patches, W token width, D embedding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pacl.data.pairs import PairSource
from pacl.data.photos import Cut
from pacl.data.token_stamp import Stamp
from pacl.distributed import gather_rows, merge_texts, rank_count, sum_over_ranks
from pacl.errors import UserError
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.compatibility import pooling_entropy
from pacl.models.model import MAX_LOGIT_SCALE, PACL
from pacl.models.precision import Precision, resolve_precision, tower_autocast
from pacl.training.held_out import HeldOut
from pacl.training.loss import contrastive_loss, in_batch_accuracy
from pacl.training.schedule import warmup_cosine

LOWER_LR = "try a lower --model.lr, from the start or from the last checkpoint (--ckpt_path last)"


class PACLModule(LightningModule):
    """Patch Aligned Contrastive Learning on a frozen CLIP.

    Batches are dictionaries: ``"images"`` (uint8 or float in [0, 1], [B, 3, H, W]) or ``"tokens"`` (frozen patch
    tokens [B, P, W], if they were computed before), ``"texts"`` (T raw strings, each once) and, unless text i belongs
    to image i alone, ``"positives"`` (bool [B, T], true where the text is right for the image). Under DDP every
    process brings its own images and texts; the loss is that of all of them together.

    Args:
        backbone: the frozen CLIP: "bundled", "open_clip:NAME/TAG", "hf-hub:ORG/REPO", "local-dir:PATH".
        dense: variant of the last block that the patch tokens come from: clip, value, maskclip, sclip, clearclip
            or naclip; proxyclip for a backbone with a proxy. The paper's is clip.
        start: of the patch embedder: "clip" is CLIP's own visual projection, "paper" random weights, "conse" random
            weights beside what the image tower's own classifier knows (see `pacl.models.embedder`).
        layers: indices of earlier layers of the image tower whose features are part of the tokens.
        conse_share: with start "conse", the classifier's share in the cosines, from 0 to below 1.
        space: with start "conse", width of the space that is trained.
        hidden: width of the embedder's hidden layer; null makes it as wide as the embedding.
        temperature: of the softmax that pools patches; 1.0 is the formula as published, .inf mean pooling.
        learn_temperature: train the temperature, from the value above.
        cosine: whether phi re-normalises the pooled vector (else it is their inner product).
        text: "identity" keeps CLIP's text embedding, "linear" trains a linear layer on top of it.
        logit_scale: what phi is multiplied by at the start, in the loss; it is trained, up to 100.
        contrast_margin: stored with the head: cosine by which the words that compete with a single prompt must be
            ahead of it to win a pixel. It does not touch training; see ``python -m eval.segmentation.single_prompt``.
        smoothing: stored with the head: temperature at which patches that look alike are averaged when images are
            segmented; 0 is off. It does not touch training.
        prior: stored with the head: how much of a label's phi with the whole image is added to its cosines when images
            are segmented. It does not touch training.
        scales: stored with the head: factors of the size at which images are encoded to be segmented. They do not
            touch training.
        patches: this many patches of each image, drawn anew every step, are used; null uses all.
        precision: arithmetic of the frozen image tower alone; the head's is the trainer's. "auto" is bf16 where the
            hardware has it and the tower is faster with it, else fp32; with a trainer of 16-mixed it is fp16.
        images_at_once: how many images of a step are embedded at once; the loss stays that of the whole batch, and
            the frozen towers still run once. null: all. With 256 a step of 4096 fits a small GPU.
        lr: peak learning rate of AdamW.
        scale_lr: the logit scale's and the temperature's own learning rate (they train as logarithms).
        weight_decay: of weight matrices; biases, scale and temperature are not decayed.
        betas: AdamW's.
        eps: AdamW's.
        warmup: steps, a quarter of all at most, in which the learning rate rises linearly; then it falls as a cosine.
    """

    def __init__(
        self,
        backbone: str = "bundled",
        dense: str = "value",
        start: Literal["clip", "paper", "conse"] = "clip",
        layers: list[int] = [],  # noqa: B006  (nothing writes to it)
        conse_share: float = 0.6,
        space: int = 256,
        hidden: int | None = None,
        temperature: float = 0.1,
        learn_temperature: bool = False,
        cosine: bool = True,
        text: Literal["identity", "linear"] = "identity",
        logit_scale: float = 1 / 0.07,
        contrast_margin: float = 0.0,
        smoothing: float = 0.0,
        prior: float = 0.0,
        scales: list[float] = [1.0],  # noqa: B006
        patches: int | None = None,
        precision: Precision = "auto",
        images_at_once: int | None = None,
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
            self.load_backbone(backbone, layers),
            dense=dense,
            start=start,
            conse_share=conse_share,
            space=space,
            smoothing=smoothing,
            prior=prior,
            scales=scales,
            hidden=hidden,
            temperature=temperature,
            learn_temperature=learn_temperature,
            cosine=cosine,
            text=text,
            logit_scale=logit_scale,
            contrast_margin=contrast_margin,
        )
        self._last_step = 0.0
        self.before: float | None = None  # the recall before the first step

    @staticmethod
    def load_backbone(name: str, layers: Sequence[int]) -> Backbone:
        """The frozen backbone; who trains many heads on one overrides this, to load and to read its texts once."""
        return load_backbone(name, layers=layers)

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures that data modules are to yield."""
        return self.pacl.clip.size

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor | None:
        """The loss over the batch of all processes, logged beside what tells a healthy run from a sick one."""
        tokens = self.tokens_of(batch)  # [B, P, W] of this process
        count = sum_over_ranks(torch.tensor(len(tokens), device=self.device))
        if count < 2:  # nothing to be contrasted with: no step, or under DDP, which cannot skip one, no gradient
            nothing = torch.stack([parameter.sum() for parameter in self.trained_parameters()]).sum() * 0
            return None if rank_count() == 1 else nothing
        t, positives = self.texts_of(batch, len(tokens))  # [T, D], bool [B, T]
        phi = self.phi(tokens, t)  # [B, T]
        loss = contrastive_loss(self.pacl.logit_scale * phi, positives, over_ranks=True)
        if not loss.isfinite():
            raise UserError(f"the loss is {float(loss.detach())} at step {self.global_step}: {LOWER_LR}")
        self.log("loss", loss.detach(), prog_bar=True)
        self.log("skipped", float(batch.get("skipped", 0)))
        self.log_health(tokens, t, phi.detach(), positives, int(count))
        return loss * rank_count()  # DDP averages the gradients that are to be summed

    def tokens_of(self, batch: dict[str, Any]) -> Tensor:
        """Frozen patch tokens [B, P, W] of a batch; of P patches those drawn for this step."""
        patches = self.hparams["patches"]
        # The batch brings the seed of what is random about it, so that a resumed run draws the same patches.
        rng = torch.Generator().manual_seed(batch["seed"] if "seed" in batch else int(torch.randint(2**31, ())))
        if "tokens" in batch:
            return some_patches(batch["tokens"], patches, rng)
        return torch.cat([some_patches(tokens, patches, rng) for tokens in self.in_parts(batch["images"])])

    def in_parts(self, images: Tensor) -> Iterator[Tensor]:
        """Frozen tokens of ``images_at_once`` images at a time; of none, if all were unreadable, one empty part."""
        if not len(images):
            yield torch.empty(0, 1, self.pacl.clip.width, device=images.device)
            return
        for part in images.split(self.hparams["images_at_once"] or len(images)):
            yield self.frozen_tokens(part)

    def texts_of(self, batch: dict[str, Any], images: int) -> tuple[Tensor, Tensor]:
        """Embeddings [T, D] of the texts of all processes, and which of them are right, bool [B, T]."""
        positives = batch.get("positives")
        if positives is None:
            positives = torch.eye(images, dtype=torch.bool, device=self.device)
        rows, positives = merge_texts(batch["texts"], positives)
        t = gather_rows(self.pacl.encode_text(batch["texts"]))
        return t if rows is None else t[rows], positives

    def phi(self, tokens: Tensor, t: Tensor) -> Tensor:
        """phi [B, T] of frozen tokens [B, P, W] and texts [T, D].

        With ``images_at_once`` the embedded patches of so many images live at a time: they are computed without a
        graph, and once more, chunk by chunk, when dL/dphi of the whole batch is there. The gradient is the same.
        """
        some = self.hparams["images_at_once"]
        if not some or len(tokens) <= some:
            return self._phi(tokens, t)
        parts = [
            checkpoint(self._phi, part, t, use_reentrant=False, preserve_rng_state=False) for part in tokens.split(some)
        ]
        return torch.cat(parts)

    def _phi(self, tokens: Tensor, t: Tensor) -> Tensor:
        return self.pacl.phi(self.pacl.embed_tokens(tokens.to(self.dtype)), t)

    @torch.no_grad()
    def log_health(self, tokens: Tensor, t: Tensor, phi: Tensor, positives: Tensor, count: int) -> None:
        """Log what tells a healthy run from a sick one; of the pooling's entropy a few images tell enough."""
        if self._trainer is not None:
            optimizer: Any = self.optimizers()
            self.log("lr", optimizer.param_groups[0]["lr"])
        self.log("logit_scale", self.pacl.logit_scale)
        self.log("temperature", self.pacl.temperature)
        if len(tokens):
            self.log("accuracy", in_batch_accuracy(phi, positives), prog_bar=True)
            few = slice(0, 16)
            own = t[positives[few].int().argmax(1)]  # each image's first right text [B, D]
            v = self.pacl.embed_tokens(tokens[few].to(self.dtype))  # [B, P, D]
            self.log("pooling_entropy", pooling_entropy(v, own, self.pacl.temperature))
        now = time.perf_counter()
        if self._last_step:
            self.log("images_per_second", count / (now - self._last_step))
        self._last_step = now

    @torch.no_grad()
    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Patch tokens [B, P, W] of images [B, 3, H, W] by the frozen tower, in the precision that the head runs in."""
        clip, precision = self.pacl.clip, self.tower_precision
        with nullcontext() if precision == "fp16" else tower_autocast(precision, clip):
            tokens, _ = clip.patch_tokens(clip.normalize(images), self.hparams["dense"])
        kind = images.device.type
        return tokens.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)

    @property
    def tower_precision(self) -> str:
        """What the frozen tower runs in: "fp32", "bf16", or "fp16", which is the trainer's own."""
        precision = self.hparams["precision"]
        if precision == "auto" and self._trainer is not None and str(self._trainer.precision) == "16-mixed":
            return "fp16"
        return resolve_precision(precision, self.pacl.clip)

    def token_stamp(self, size: int, cut: Cut, source: PairSource, dtype: str) -> Stamp:
        """What `frozen_tokens` of a source depend on."""
        return Stamp.of(self.pacl.clip, self.hparams["dense"], size, cut, source, dtype, self.tower_precision)

    def on_validation_epoch_start(self) -> None:
        self._held_out = HeldOut()

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        """Keep the embedded patches of held-out images and their texts; they are compared when all are there."""
        parts = [batch["tokens"]] if "tokens" in batch else self.in_parts(batch["images"])
        patches = [self.pacl.embed_tokens(tokens.to(self.dtype)) for tokens in parts]
        self._held_out.add(patches, batch["texts"], batch["positives"])

    def on_validation_epoch_end(self) -> None:
        """Retrieval among all held-out pictures and captions of all processes."""
        temperature, cosine = float(self.pacl.temperature), self.pacl.config.cosine
        found = self._held_out.score(self.pacl.encode_text, self.device, temperature=temperature, cosine=cosine)
        figures = {"val_recall": found.mean}
        figures |= {f"val_image_to_text_R{k}": share for k, share in found.image_to_text.items()}
        figures |= {f"val_text_to_image_R{k}": share for k, share in found.text_to_image.items()}
        if self.trainer.sanity_checking:  # before the first step: what training is to improve on
            self.before = found.mean
            for logger in self.trainer.loggers:
                logger.log_metrics(figures, step=0)
        else:
            for name, figure in figures.items():
                self.log(name, figure, prog_bar=name == "val_recall")

    def trained_parameters(self) -> list[nn.Parameter]:
        """What trains."""
        return [parameter for parameter in self.pacl.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """AdamW with three groups (weights, biases, scalars) under one schedule: linear warm-up, then cosine."""
        hp = self.hparams
        trained = self.trained_parameters()
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "lr": hp["lr"], "weight_decay": hp["weight_decay"]},
            {"params": [p for p in trained if p.ndim == 1], "lr": hp["lr"]},
            {"params": [p for p in trained if p.ndim == 0], "lr": hp["scale_lr"]},
        ]
        self._groups = [
            {"weight_decay": 0.0, "betas": tuple(hp["betas"]), "eps": hp["eps"], **group} for group in groups
        ]
        self._groups = [group for group in self._groups if group["params"]]
        optimizer = torch.optim.AdamW(
            [dict(group) for group in self._groups],
            betas=tuple(hp["betas"]),
            eps=hp["eps"],
            weight_decay=0.0,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = min(hp["warmup"], max(1, steps // 4))  # a short run would end in its warm-up
        if warmup < hp["warmup"]:
            rank_zero_warn(
                f"--model.warmup {hp['warmup']}: of {steps} steps, {warmup} are taken; more epochs train better"
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(warmup, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then clamp the parameter itself: at a clamp in the forward pass its gradient would be zero for good."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.pacl.log_logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def on_train_start(self) -> None:
        """A resumed run takes rates, decay and betas from its settings, and the checkpoint's moments and step."""
        schedule: Any = self.lr_schedulers()
        optimizer: Any = self.optimizers()
        for group, settings in zip(optimizer.param_groups, self._groups, strict=True):
            group.update({key: value for key, value in settings.items() if key != "params"})
            group["initial_lr"] = settings["lr"]
        schedule.base_lrs = [settings["lr"] for settings in self._groups]
        for group, factor, base in zip(optimizer.param_groups, schedule.lr_lambdas, schedule.base_lrs, strict=True):
            group["lr"] = base * factor(schedule.last_epoch)

    def check_finite(self) -> None:
        """Raise a `UserError` if this head no longer says finite cosines."""
        with torch.no_grad():
            v = self.pacl.embed_tokens(torch.ones(1, 1, self.pacl.clip.width, device=self.device))
        scalars = torch.stack([self.pacl.logit_scale.detach(), self.pacl.temperature.detach()])
        if not v.isfinite().all() or scalars.isnan().any():
            raise UserError(f"the head is no longer finite after step {self.global_step}: {LOWER_LR}")

    def train(self, mode: bool = True) -> PACLModule:
        """The frozen towers stay in eval mode whatever the loop asks for."""
        super().train(mode)
        self.pacl.clip.eval()
        return self

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with another head, or another CLIP, than the checkpoint is of."""
        for name in ("backbone", "dense", "start", "layers", "hidden", "text", "learn_temperature", "cosine"):
            before, now = checkpoint["hyper_parameters"].get(name), self.hparams[name]
            if before != now:
                raise UserError(
                    f"--ckpt_path: that run has --model.{name} {before}, this one {now}; go on with the same"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains; the frozen CLIP is named by the hyper-parameters."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}


def some_patches(tokens: Tensor, count: int | None, rng: torch.Generator) -> Tensor:
    """``count`` patches of each image, drawn at random without replacement: [B, P, W] -> [B, count, W].

    None, or as many as there are, takes all. The draw is made on the CPU, so that it is the same on every device.
    """
    B, P, W = tokens.shape
    if count is None or count >= P:
        return tokens
    drawn = torch.rand(B, P, generator=rng).topk(count, dim=1).indices.to(tokens.device)  # [B, count]
    return tokens.gather(1, drawn.unsqueeze(-1).expand(-1, -1, W))
