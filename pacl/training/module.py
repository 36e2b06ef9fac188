"""`PACLModule`: trains a patch embedder on frozen tokens with the contrastive loss over phi.

The patch embedder, the logit scale and, where set, the pooling temperature and a linear text embedder train.
Shapes: B images, T texts, P patches, W token width, D embedding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pacl.data.crop import SquareCrop
from pacl.data.pairs import PairSource
from pacl.data.token_stamp import Stamp
from pacl.distributed import gather_texts, mean_over_ranks, rank_count, sum_over_ranks
from pacl.errors import ArgumentError, UserError, first_few
from pacl.models import identity
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.compatibility import pooling_entropy
from pacl.models.head import HeadSettings
from pacl.models.model import MAX_LOGIT_SCALE, PACL
from pacl.models.precision import Precision, resolve_precision, tower_autocast
from pacl.training import limits
from pacl.training.loss import contrastive_loss, in_batch_accuracy, without_negatives
from pacl.training.optimizer import adamw, shorten_warmup
from pacl.training.validation import RetrievalValidator

LOWER_LR = "train again with a lower lr"

OPTIMISER = ("patches", "precision", "lr", "scale_lr", "weight_decay", "betas", "eps", "warmup")
"""Arguments of `PACLModule` that a resumed run must have, besides what `pacl.models.identity.objective` states: the
model card states one value for the whole run."""


DIAGNOSED = 16
"""Images of a step that the pooling entropy is averaged over."""


class PACLModule(LightningModule):
    """Patch Aligned Contrastive Learning on a frozen CLIP.

    Batches are dictionaries: ``"images"`` (uint8 or float in [0, 1], [B, 3, H, W]) or ``"tokens"`` (cached frozen
    patch tokens [B, P, W]), ``"texts"`` (T strings, no two of them equal) and, unless text i belongs to image i alone,
    ``"positives"`` (bool [B, T], True where the text belongs to the image). Under DDP every process has its own images
    and texts; the loss is that of the whole batch.

    Args:
        backbone: the frozen CLIP: "bundled", "open_clip:NAME/TAG", "hf-hub:ORG/REPO", "local-dir:PATH".
        layers: indices of earlier layers of the image tower whose features are part of the tokens.
        logit_scale: factor of phi in the loss at the start of training, CLIP's initial 1 / 0.07; it is trained, up to
            100. (Without training, `PACL.untrained` takes the scale of the frozen CLIP.)
        patches: number of random patches of each image that are used in a step; null uses all.
        precision: of the frozen image tower alone; the head has the trainer's. "auto" is bf16 where the hardware has
            it and the tower is faster with it, else fp32; with a trainer of 16-mixed it is fp16.
        images_at_once: number of images of a step that are embedded at once, to save memory: with 256 a step of 4096
            fits a small GPU. The loss stays that of the whole batch. null: all.
        lr: peak learning rate of AdamW.
        scale_lr: learning rate of the logarithms of the logit scale and of the temperature.
        weight_decay: of weight matrices; biases, logit scale and temperature are not decayed.
        betas: of AdamW.
        eps: of AdamW.
        warmup: steps, at most a quarter of all, in which the learning rate rises linearly; then it falls as a cosine.
        **head: further settings of the head, see `pacl.models.head.HeadSettings`.
    """

    def __init__(
        self,
        backbone: str = "bundled",
        layers: list[int] = [],  # noqa: B006  (nothing writes to it)
        logit_scale: float = 1 / 0.07,
        patches: int | None = None,
        precision: Precision = "auto",
        images_at_once: int | None = None,
        lr: float = 5e-4,
        scale_lr: float = 1e-2,
        weight_decay: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        warmup: int = 50,
        **head: Any,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        limits.check_least(self.hparams, **limits.HEAD)
        if not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError("betas", betas, "must be two numbers from 0 to below 1, such as (0.9, 0.98)")
        self.strict_loading = False  # checkpoints do not hold the frozen towers
        settings = HeadSettings(logit_scale=logit_scale, **head)
        self.pacl = PACL.untrained(self.load_backbone(backbone, layers), settings)
        self.pacl.config.checksum = self.pacl.clip.checksum()  # a resumed run must have the same weights
        self._last_step = 0.0
        self._resumed: tuple[int, int] | None = None  # step and warmup of the checkpoint
        self.warmup: int = self.hparams["warmup"]  # as it is used, see `configure_optimizers`
        self.start_recall: float | None = None
        """Validation recall before the first step of the run, also of a resumed one."""
        self.last_figures: dict[str, float] = {}
        """Recalls of the last validation, by name; a resumed run starts with those of its checkpoint."""
        self.validated_at = 0
        """The step after which the last validation was."""
        self.chance: dict[str, float] = {}
        """Recalls that a random order would have, by name; empty before the first validation."""

    @staticmethod
    def load_backbone(name: str, layers: Sequence[int]) -> Backbone:
        """Load the frozen backbone; override this to train many heads on one backbone."""
        return load_backbone(name, layers=layers)

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the data module must yield."""
        return self.pacl.clip.size

    def setup(self, stage: str) -> None:
        """Take the size that images have in training for those that are segmented meanwhile, and for the saved head."""
        side = getattr(self.trainer.datamodule, "image_size", None)  # type: ignore[attr-defined]
        if callable(side):
            self.pacl.config.size = side()

    @property
    def last_recall(self) -> float | None:
        """Validation recall of the last validation."""
        return self.last_figures.get("val_recall")

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor | None:
        """The loss over the batch of all processes, logged with diagnostics."""
        tokens = self.tokens_of(batch)  # [B, P, W] of this process
        count = sum_over_ranks(torch.tensor(len(tokens), device=self.device))
        if count < 2:
            return without_negatives(self.trained_parameters())
        t, positives = self.texts_of(batch)  # [T, D], bool [B, T]
        phi = self.phi(tokens, t)  # [B, T]
        loss = contrastive_loss(self.pacl.logit_scale * phi, positives, over_ranks=True)
        if not loss.isfinite():
            raise UserError(f"the loss is {float(loss.detach())} at step {self.global_step}: {LOWER_LR}")
        self.log("loss", loss.detach(), prog_bar=True)
        self.log("skipped", float(batch.get("skipped", 0)))
        self.log_diagnostics(batch, tokens, phi.detach(), positives, int(count))
        return loss * rank_count()  # DDP averages the gradients, which must be summed

    def tokens_of(self, batch: dict[str, Any]) -> Tensor:
        """Frozen patch tokens [B, P, W] of a batch; with ``patches`` a random subset of P."""
        patches = self.hparams["patches"]
        # The batch holds its own seed, so that a resumed run draws the same patches.
        rng = torch.Generator().manual_seed(batch["seed"] if "seed" in batch else int(torch.randint(2**31, ())))
        if "tokens" in batch:
            return some_patches(batch["tokens"], patches, rng)
        return torch.cat([some_patches(tokens, patches, rng) for tokens in self.in_parts(batch["images"])])

    def in_parts(self, images: Tensor) -> Iterator[Tensor]:
        """Frozen tokens of ``images_at_once`` images at a time, in the dtype that the head runs in.

        There is one empty part if there are no images.
        """
        if not len(images):
            yield torch.empty(0, 1, self.pacl.clip.width, device=images.device)
            return
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        for part in images.split(self.hparams["images_at_once"] or len(images)):
            yield self.frozen_tokens(part).to(dtype)

    def texts_of(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Embeddings [T, D] of the texts of all processes, and the positives among them, bool [B, T]."""
        return gather_texts(batch["texts"], self.pacl.encode_text(batch["texts"]), batch.get("positives"))

    def phi(self, tokens: Tensor, t: Tensor) -> Tensor:
        """phi [B, T] of frozen tokens [B, P, W] and texts [T, D].

        With ``images_at_once`` the embedded patches are held for that many images at a time (gradient
        checkpointing): the backward pass computes them again. The gradient is the same.
        """

        def embed_and_pool(part: Tensor) -> Tensor:
            return self.pacl.phi(self.pacl.embed_tokens(part.to(self.dtype)), t)

        parts = tokens.split(self.hparams["images_at_once"] or max(1, len(tokens)))
        if len(parts) == 1:
            return embed_and_pool(tokens)
        return torch.cat([checkpoint(embed_and_pool, x, use_reentrant=False, preserve_rng_state=False) for x in parts])

    @torch.no_grad()
    def log_diagnostics(
        self, batch: dict[str, Any], tokens: Tensor, phi: Tensor, positives: Tensor, count: int
    ) -> None:
        """Log learning rate, logit scale, temperature, accuracy, entropy of the pooling weights, and throughput."""
        if self._trainer is not None:
            optimizer: Any = self.optimizers()
            self.log("lr", optimizer.param_groups[0]["lr"])
        self.log("logit_scale", self.pacl.logit_scale)
        self.log("temperature", self.pacl.temperature)
        accuracy = entropy = None
        if len(tokens):
            accuracy = in_batch_accuracy(phi, positives)
            own = self.pacl.encode_text(batch["texts"])  # in the order of this process alone, where captions come first
            if "positives" in batch:
                own = own[batch["positives"].int().argmax(1)]
            v = self.pacl.embed_tokens(tokens[:DIAGNOSED].to(self.dtype))  # [B, P, D]
            entropy = pooling_entropy(v, own[:DIAGNOSED], self.pacl.temperature)
        self.log("accuracy", mean_over_ranks(accuracy, len(tokens), self.device), prog_bar=True)
        self.log("pooling_entropy", mean_over_ranks(entropy, len(tokens[:DIAGNOSED]), self.device))
        now = time.perf_counter()
        if self._last_step:
            self.log("images_per_second", count / (now - self._last_step))
        self._last_step = now

    @torch.no_grad()
    def frozen_tokens(self, images: Tensor) -> Tensor:
        """Patch tokens, float32 [B, P, W], of images [B, 3, H, W] from the frozen tower.

        Apart from `tower_precision` they do not depend on the trainer: runs of other precisions share cached ones.
        """
        clip, precision = self.pacl.clip, self.tower_precision
        with nullcontext() if precision == "fp16" else tower_autocast(precision, clip):
            tokens, _ = clip.patch_tokens(clip.normalize(images), self.pacl.config.dense)
        return tokens.float()

    @property
    def tower_precision(self) -> str:
        """Precision of the frozen tower: "fp32", "bf16" or "fp16", which only the trainer sets."""
        precision = self.hparams["precision"]
        if precision == "auto" and self._trainer is not None and str(self._trainer.precision) == "16-mixed":
            return "fp16"
        return resolve_precision(precision, self.pacl.clip)

    def token_stamp(self, size: int, crop: SquareCrop, source: PairSource, dtype: str) -> Stamp:
        """Everything that `frozen_tokens` of a source depend on."""
        return Stamp.of(self.pacl.clip, self.pacl.config.dense, size, crop, source, dtype, self.tower_precision)

    def on_validation_epoch_start(self) -> None:
        self._validator = RetrievalValidator()

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        """Collect the embedded patches of validation images, and their texts."""
        parts = [batch["tokens"]] if "tokens" in batch else self.in_parts(batch["images"])
        patches = [self.pacl.embed_tokens(tokens.to(self.dtype)) for tokens in parts]
        self._validator.add(patches, batch["texts"], batch["positives"])

    def on_validation_epoch_end(self) -> None:
        """Log retrieval between all validation images and captions of all processes."""
        temperature, cosine = float(self.pacl.temperature), self.pacl.config.cosine
        figures = self._validator.compute(self.pacl.encode_text, self.device, temperature=temperature, cosine=cosine)
        self.last_figures, self.chance, self.validated_at = figures, self._validator.chance, self.trainer.global_step
        if not self.trainer.sanity_checking:
            for name, figure in figures.items():
                self.log(name, figure, prog_bar=name == "val_recall")
            return
        if self.trainer.global_step == 0:  # the baseline of the training
            self.start_recall = figures["val_recall"]
        if doubt := self._validator.say_chance():
            rank_zero_warn(doubt)
        for logger in self.trainer.loggers:
            chance = {f"{name}_chance": share for name, share in self.chance.items()}
            logger.log_metrics({**figures, **chance}, step=self.trainer.global_step)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters with ``requires_grad``."""
        return [parameter for parameter in self.pacl.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """AdamW with three groups: weight matrices, biases, and the scalars with their own learning rate."""
        hp = self.hparams
        trained = self.trained_parameters()
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "lr": hp["lr"], "weight_decay": hp["weight_decay"]},
            {"params": [p for p in trained if p.ndim == 1], "lr": hp["lr"], "weight_decay": 0.0},
            {"params": [p for p in trained if p.ndim == 0], "lr": hp["scale_lr"], "weight_decay": 0.0},
        ]
        steps = int(self.trainer.estimated_stepping_batches)
        if self._resumed is not None and self._resumed[0] >= steps:  # all steps are done
            self.warmup = self._resumed[1]
        else:
            self.warmup = shorten_warmup(hp["warmup"], steps)
        configured = adamw(groups, self.warmup, steps, tuple(hp["betas"]), hp["eps"])
        self._groups = [{**group, "params": None} for group in configured["optimizer"].param_groups]
        return configured

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then clamp the logit scale; a clamp in the forward pass would have no gradient at the limit."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.pacl.log_logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def on_train_start(self) -> None:
        """Set learning rates, weight decay, betas and eps, which resuming has read from the checkpoint, to the own."""
        schedule: Any = self.lr_schedulers()
        optimizer: Any = self.optimizers()
        schedule.base_lrs = [settings["initial_lr"] for settings in self._groups]
        for group, settings, factor in zip(optimizer.param_groups, self._groups, schedule.lr_lambdas, strict=True):
            lr = settings["initial_lr"] * factor(schedule.last_epoch)
            group.update({**settings, "params": group["params"], "lr": lr})

    def check_finite(self) -> None:
        """Raise a `UserError` if the head no longer gives finite cosines."""
        with torch.no_grad():
            v = self.pacl.embed_tokens(torch.ones(1, 1, self.pacl.clip.width, device=self.device))
        scalars = torch.stack([self.pacl.logit_scale.detach(), self.pacl.temperature.detach()])
        if not v.isfinite().all() or scalars.isnan().any():
            raise UserError(f"the head is no longer finite after step {self.global_step}: {LOWER_LR}")

    def train(self, mode: bool = True) -> PACLModule:
        """Set the mode; the frozen towers stay in eval mode."""
        super().train(mode)
        self.pacl.clip.eval()
        return self

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take what the run knows, and refuse the checkpoint of a run with other settings.

        Raises:
            ArgumentError: the objective or one of `OPTIMISER` differs.
            UserError: its weights are not those of this head.
        """
        saved = {**checkpoint.get("hyper_parameters", {}), **checkpoint["objective"]}
        objective, optimiser = identity.objective(self.pacl), {name: self.hparams[name] for name in OPTIMISER}
        if unknown := first_few(sorted(objective.keys() - checkpoint["objective"].keys())):
            raise UserError(
                f"the checkpoint does not state {unknown} of its run, as it is of another version of pacl; start from "
                "the beginning"
            )
        for name, now in {**objective, **optimiser}.items():
            if _plain(before := saved.get(name, now)) != _plain(now):
                raise ArgumentError(name, now, f"the run of the checkpoint has {before}; resume it with the same")
        own = {name: parameter.shape for name, parameter in self.named_parameters() if parameter.requires_grad}
        if {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()} != own:
            raise UserError("the checkpoint has weights of another head, or is damaged; start from the beginning")
        self.start_recall = checkpoint.get("start_recall")
        self.last_figures, self.chance = checkpoint.get("last_figures", {}), checkpoint.get("chance", {})
        self.validated_at = checkpoint.get("measured_at", checkpoint["global_step"])
        self._resumed = checkpoint["global_step"], checkpoint.get("warmup", self.hparams["warmup"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the frozen towers, which the hyper-parameters name, and add what a resumed run must know."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        checkpoint["objective"] = identity.objective(self.pacl)
        checkpoint |= {"start_recall": self.start_recall, "last_figures": self.last_figures, "chance": self.chance}
        checkpoint |= {"measured_at": self.validated_at, "warmup": self.warmup}


def _plain(value: Any) -> Any:
    """A tuple as a list: YAML has no tuples."""
    return list(value) if isinstance(value, tuple) else value


def some_patches(tokens: Tensor, count: int | None, rng: torch.Generator) -> Tensor:
    """``count`` random patches of each image, without replacement: [B, P, W] -> [B, count, W].

    None, or a count of P or more, takes all. They are drawn on the CPU, to be the same with every device.
    """
    B, P, W = tokens.shape
    if count is None or count >= P:
        return tokens
    drawn = torch.rand(B, P, generator=rng).topk(count, dim=1).indices.to(tokens.device)  # [B, count]
    return tokens.gather(1, drawn.unsqueeze(-1).expand(-1, -1, W))
