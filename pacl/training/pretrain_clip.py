"""Pretraining of a small CLIP from random weights.

If the data module has a `vocabulary`, the token table of the text tower holds the tokens of those words only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pacl.files import atomic_write
from pacl.models.towers.tokenizer import CompactTokenizer, token_ids_of
from pacl.prompts import known_words
from pacl.training import limits
from pacl.training.contrastive import ContrastiveModule

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


@dataclass(frozen=True)
class Towers:
    """Sizes of the two towers, in open_clip's terms.

    Attributes:
        image_size: side of the square training images in pixels.
        patch_size: side of a patch in pixels.
        width: token width of the image tower.
        layers: blocks of the image tower.
        head_width: width of one attention head, in both towers.
        text_width: token width of the text tower.
        text_layers: blocks of the text tower.
        context_length: tokens per text, start and end included.
        dim: width of the common embedding.
        mean: per-channel mean of images in [0, 1], for normalisation.
        std: per-channel standard deviation, likewise.
    """

    image_size: int = 64
    patch_size: int = 8
    width: int = 128
    layers: int = 4
    head_width: int = 32
    text_width: int = 128
    text_layers: int = 2
    context_length: int = 32
    dim: int = 128
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def open_clip_config(self, vocab_size: int, patch_dropout: float = 0.0) -> dict[str, Any]:
        """The ``model_cfg`` that open_clip builds this model from."""
        return {
            "embed_dim": self.dim,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.width,
                "layers": self.layers,
                "head_width": self.head_width,
                "patch_dropout": patch_dropout,
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": vocab_size,
                "width": self.text_width,
                "heads": self.text_width // self.head_width,
                "layers": self.text_layers,
            },
        }


class CLIPModule(ContrastiveModule):
    """Trains a CLIP from random weights.

    Args:
        towers: sizes of the model.
        vocabulary: all words of all captions (by default the data module's); None keeps CLIP's whole token table.
        contrast: prompts that compete with a single prompt (by default the data module's); stored with the model.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of weight matrices; gains, biases and embeddings are not decayed.
        warmup: steps, at most a quarter of all, in which the learning rate rises linearly; then it falls as a cosine.
        patch_dropout: share of the patches that are dropped from each training image (FLIP, arXiv 2212.00794).
        dropout_until: share of the steps after which no patches are dropped, as at inference.
    """

    def __init__(
        self,
        towers: Towers = Towers(),
        vocabulary: tuple[str, ...] | None = None,
        contrast: tuple[str, ...] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        warmup: int = 150,
        patch_dropout: float = 0.5,
        dropout_until: float = 0.9,
    ) -> None:
        super().__init__()
        limits.check_least(locals(), **limits.CLIP)
        from open_clip.model import CLIP

        self.towers, self.vocabulary, self.contrast = towers, vocabulary, contrast
        self.learning_rate, self.weight_decay, self.warmup = learning_rate, weight_decay, warmup
        self.dropout_until = dropout_until
        self.tokenizer = CompactTokenizer(token_ids_of(vocabulary), towers.context_length)
        self.clip = CLIP(**towers.open_clip_config(self.tokenizer.vocab_size, patch_dropout))
        init_positions(self.clip.visual)
        self.register_buffer("mean", 255 * torch.tensor(towers.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(towers.std).view(3, 1, 1), persistent=False)

    def embed_images(self, batch: dict[str, Any]) -> Tensor:
        self.check_size(batch["images"])
        images = (batch["images"].to(self.mean.dtype) - self.mean) / self.std
        return self._embed(self.clip.encode_image, images)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self._embed(self.clip.encode_text, self.tokenizer(texts).to(self.device))  # of token ids [T, L]

    def _embed(self, encode: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Unit vectors, float32 [n, D], of n inputs of a tower."""
        if not len(inputs):  # no image of this process could be read
            return self.clip.logit_scale * torch.empty(0, self.towers.dim, device=self.device)
        # On a CPU a step takes half as long again with the backward pass of fused attention.
        with sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext():
            return F.normalize(encode(inputs).float(), dim=-1)

    @property
    def image_size(self) -> int:
        return self.towers.image_size

    @property
    def log_scale(self) -> nn.Parameter:
        return self.clip.logit_scale

    def save(self, folder: str | Path) -> None:
        save_clip(self, folder)

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        if self.global_step >= self.dropout_until * self.trainer.estimated_stepping_batches:
            self.clip.visual.patch_dropout = nn.Identity()

    def parameter_groups(self) -> list[dict[str, Any]]:
        decay = [p for n, p in self.clip.named_parameters() if p.ndim >= 2 and "embedding" not in n]
        rest = [p for n, p in self.clip.named_parameters() if p.ndim < 2 or "embedding" in n]
        return [
            {"params": decay, "lr": self.learning_rate, "weight_decay": self.weight_decay},
            {"params": rest, "lr": self.learning_rate, "weight_decay": 0.0},
        ]


def init_positions(visual: nn.Module) -> None:
    """Initialise the learned position embedding with sines and cosines of row and column (MAE, arXiv 2111.06377)."""
    from open_clip.transformer import get_2d_sincos_pos_embed

    table = visual.positional_embedding  # [1 + P, W]
    assert isinstance(table, Tensor)
    side = math.isqrt(len(table) - 1)
    with torch.no_grad():
        table.copy_(torch.from_numpy(get_2d_sincos_pos_embed(table.shape[1], side, cls_token=True)))


def save_clip(trained: CLIPModule, folder: str | Path) -> None:
    """Write a folder that open_clip's ``local-dir:`` schema loads: weights in float16, and the configuration.

    Each file is written atomically, the weights first.
    """
    from safetensors.torch import save

    folder = Path(folder)
    towers = trained.towers
    config: dict[str, Any] = {
        "model_cfg": towers.open_clip_config(trained.tokenizer.vocab_size),
        "preprocess_cfg": {
            "size": towers.image_size,
            "mode": "RGB",
            "mean": list(towers.mean),
            "std": list(towers.std),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    if trained.vocabulary is not None:
        config["token_ids"] = list(trained.tokenizer.token_ids)
        config["vocabulary"] = known_words(trained.vocabulary)
    if trained.contrast is not None:
        config["contrast"] = list(trained.contrast)
    weights = {
        name: value.detach().to("cpu", torch.float16 if value.is_floating_point() else None).contiguous()
        for name, value in trained.clip.state_dict().items()
    }
    with atomic_write(folder / WEIGHTS) as aside:
        aside.write_bytes(save(weights, metadata={"format": "pt"}))
    with atomic_write(folder / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
