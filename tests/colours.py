"""A model simple enough to know every answer: patch vectors are mean colours, texts are names of colours."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pacl.models.compatibility import compatibility
from pacl.models.head import HeadConfig
from pacl.models.towers.base import ImageTower
from pacl.models.towers.grid import PatchGrid

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128), "teal": (0, 90, 90)}


class ColourModel(nn.Module):
    """Patch vectors are the patches' mean colours, text vectors the named colours; both of unit length."""

    def __init__(self, patch: int = 8, size: int = 64) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.logit_scale = torch.tensor(50.0)
        self.config = HeadConfig(
            backbone="colours", dense="clip", contrast=["grey", "green"], size=size, mean=[0.0] * 3, std=[1.0] * 3,
            quick_gelu=False, width=3, dim=3, hidden=3, logit_scale=50.0,
        )  # fmt: skip
        self.name, self.centre = None, None  # made here, not calibrated
        tower = SimpleNamespace(patch=patch, fixed_stride=False)
        own = {"quick_gelu": False, "architecture": "colours"}
        preprocessing = {"mean": self.config.mean, "std": self.config.std}
        self.clip = SimpleNamespace(
            patch=patch, normalize=lambda images: images, count_tokens=lambda text: len(text.split()), context_length=5,
            device=self.device, preprocessing=preprocessing, logit_scale=50.0, image=SimpleNamespace(
                **own, layers=(), preprocessing=preprocessing, bf16_on_cpu=False,
                check_stride=lambda stride: ImageTower.check_stride(tower, stride),
            ),
            patch_tokens_of=self.patch_tokens_of,
            text=SimpleNamespace(**own, familiar=None, context_length=5), vocabulary=None,
            checksum=lambda: "0" * 64, fingerprint="0" * 16,
        )  # fmt: skip
        self.batches: list[tuple[int, ...]] = []

    def patch_tokens_of(
        self, images: Tensor, dense: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        self.batches.append(tuple(images.shape))
        patch = self.clip.patch
        means = F.avg_pool2d(images, patch, stride or patch)  # [B, 3, h, w]
        tokens = means.flatten(2).transpose(1, 2)  # [B, P, 3]
        return [tokens] * len(dense), PatchGrid(means.shape[2], means.shape[3], patch, stride or patch)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        return F.normalize(tokens + 1e-6, dim=-1)  # [B, P, 3]

    patch_vectors = embed_tokens

    def encode_patches(self, images: Tensor, stride: int | None = None) -> tuple[Tensor, PatchGrid]:
        (tokens,), grid = self.patch_tokens_of(images, ["clip"], stride)
        return self.embed_tokens(tokens), grid

    def phi(self, patches: Tensor, texts: Tensor) -> Tensor:
        return compatibility(patches, texts, temperature=0.1)

    def head_checksum(self) -> str:
        return "colours"

    def part_checksum(self, part: str) -> str:
        return "colours"

    def encode_prompts(self, prompts: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
        colours = [COLOURS[prompt.split()[-1]] for prompt in prompts]
        return F.normalize(torch.tensor(colours, dtype=torch.float32), dim=-1)  # [N, 3]


def picture(height: int, width: int, square: Sequence[int] | None = None, colour: str = "red") -> np.ndarray:
    """Grey, with one coloured rectangle (top, bottom, left, right)."""
    image = np.full((height, width, 3), 128, np.uint8)
    if square:
        top, bottom, left, right = square
        image[top:bottom, left:right] = COLOURS[colour]
    return image


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise: every patch and pixel differs."""
    small = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(small, (height, width), mode="bicubic")[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
