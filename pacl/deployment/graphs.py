"""The towers of a model as modules of tensors alone, which torch's exporters can follow.

pixels [B,3,H,W] --ImageGraph--> patches [B,D,h,w], and where the tower has it, pooled [B,D]
token ids [T,L]  --TextGraph---> texts [T,D]
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pacl.errors import ArgumentError
from pacl.models.dual import ProjectedTextTower
from pacl.models.towers.base import ImageTower, TextTower
from pacl.models.towers.open_clip_towers import OpenClipText
from pacl.models.towers.proxy import ProxyTower

if TYPE_CHECKING:
    from pacl.models.model import PACL


class ImageGraph(nn.Module):
    """Image tower and head: pixels to patch embeddings, as `pacl.segmentation` uses them at one scale.

    Args:
        model: the model, on the CPU.

    Attributes:
        outputs: names of the outputs, ``patches`` and, of towers that compute both in one pass, ``pooled``. Heads
            with a layer on texts have none: their text embeddings are not CLIP's own and must not be compared with it.

    Raises:
        ArgumentError: ``model``: its image tower cannot be exported.
    """

    def __init__(self, model: PACL) -> None:
        super().__init__()
        clip = model.clip
        if isinstance(clip.image, ProxyTower):
            raise ArgumentError(
                "model",
                clip.name,
                "two image towers at once (proxyclip) cannot be exported; use the CLIP alone, with dense naclip",
            )
        self.model = without(model, "clip.text")
        one_pass = type(clip.image).pooled_and_tokens is not ImageTower.pooled_and_tokens
        one_space = clip.shared and isinstance(model.text_embedder, nn.Identity)
        self.outputs = ("patches", "pooled") if one_space and one_pass else ("patches",)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """RGB pixels.

        Args:
            pixels: float32 ``[B, 3, H, W]`` in [0, 1]; H and W are multiples of the patch size. They are normalised
                with the tower's mean and std in here.

        Returns:
            ``patches``, float32 ``[B, D, h, w]``: `PACL.patch_vectors`, row by row; ``pooled``, float32 ``[B, D]`` of
            unit norm: CLIP's own embedding of the whole image.
        """
        clip, dense = self.model.clip, self.model.config.dense
        images = clip.normalize(pixels)
        grid = (pixels.shape[2] // clip.patch, pixels.shape[3] // clip.patch)
        pooled = None
        if len(self.outputs) > 1:
            pooled, tokens = clip.image.pooled_and_tokens(images, dense)
        else:
            (tokens,), _ = clip.image(images, [dense])
        patches = self.model.patch_vectors(tokens.float()).mT.unflatten(2, grid)
        return patches if pooled is None else (patches, F.normalize(pooled.float(), dim=-1))


class TextGraph(nn.Module):
    """Text tower and head: token ids to text embeddings.

    Args:
        model: the model, on the CPU.

    Raises:
        ArgumentError: ``text``: its text tower cannot be exported.
    """

    def __init__(self, model: PACL) -> None:
        super().__init__()
        tower = model.clip.text
        inner = tower.tower if isinstance(tower, ProjectedTextTower) else tower
        if not isinstance(inner, OpenClipText):
            raise ArgumentError(
                "text",
                True,
                f"the text tower of {model.clip.name} is not that of a CLIP and cannot be exported; name the labels "
                "instead, whose embeddings are then written",
            )
        self.tower, self.length = tower, inner.context_length
        self.text_embedder = model.text_embedder
        self.name = model.clip.name

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids int64 ``[T, L]``, padded to the context length -> unit embeddings, float32 ``[T, D]``."""
        embedded = F.normalize(_embed(self.tower, ids).float(), dim=-1)
        return F.normalize(self.text_embedder(embedded), dim=-1)


M = TypeVar("M", bound=nn.Module)


def without(module: M, path: str) -> M:
    """A module that shares all but one part with ``module``: exported graphs keep the weights of every part they hold.

    Args:
        module: stays as it is.
        path: of the part, such as ``"clip.text"``.
    """
    name, _, rest = path.partition(".")
    part = module.get_submodule(name)
    copied = copy.copy(module)
    copied._modules = {**module._modules, name: without(part, rest) if rest else nn.Identity()}
    return copied


def _embed(tower: TextTower, ids: Tensor) -> Tensor:
    if isinstance(tower, ProjectedTextTower):
        return tower.head(F.normalize(_embed(tower.tower, ids).float(), dim=-1))
    assert isinstance(tower, OpenClipText)
    return tower.clip.encode_text(ids)


def tokenize(graph: TextGraph, texts: list[str]) -> Tensor:
    """The input of a `TextGraph` for texts, int64 ``[T, L]``."""
    tower = graph.tower.tower if isinstance(graph.tower, ProjectedTextTower) else graph.tower
    return tower.tokenizer(texts).to(torch.int64)  # type: ignore[operator]
