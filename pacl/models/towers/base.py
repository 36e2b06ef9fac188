"""Base classes of image towers and text towers, the two parts of a backbone.

How to add a kind of tower is described in `pacl.models.towers.registry`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from pacl.errors import ArgumentError, UserError
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.hub import first_line

SAMPLED = 64
"""Values of a weight that are compared where PyTorch does not count writes to it."""

MARK = "_pacl_mark"
"""Attribute of weights, see `weight_state`."""

_MARKS = itertools.count()


@dataclass(frozen=True)
class Classifier:
    """The linear classifier that an image tower was trained with.

    Attributes:
        weight: ``[K, F]``. It reads the final features, which are the last F columns of a token.
        bias: ``[K]``.
        names: synonymous names of each class.
        definitions: a short definition of each class.
    """

    weight: Tensor
    bias: Tensor
    names: list[tuple[str, ...]]
    definitions: list[str]


class ImageTower(nn.Module, ABC):
    """Images of any size -> patch tokens.

    Attributes:
        width: token width W; with ``layers`` the sum of all widths.
        patch: patch side in pixels; of a convolutional tower its total stride.
        fixed_stride: whether the pixels between patches are always ``patch``.
        size: side in pixels of the square images that it was trained on.
        preprocessing: preprocessing of images, with open_clip's keys: ``mean`` and ``std`` per channel in [0, 1],
            ``interpolation``, ``resize_mode``, ``size``.
        variants: dense variants that it supports, see `pacl.models.towers.dense`.
        layers: indices of the earlier layers whose features come before the final ones in a token.
        quick_gelu: whether its activation is QuickGELU.
        architecture: what makes tokens of its weights: its library's configuration, by `architecture_of`.
        classifier: the linear classifier on its final features, if it has one.
    """

    width: int
    patch: int
    fixed_stride: bool = False
    size: int
    preprocessing: dict[str, Any]
    variants: tuple[str, ...] = ("clip",)
    layers: tuple[int, ...] = ()
    quick_gelu: bool = False
    architecture: str = ""
    classifier: Classifier | None = None

    @property
    def projection(self) -> Tensor | None:
        """Linear map ``[W, D]`` from tokens to the space shared with the texts; ``None`` without one."""
        return None

    def check_stride(self, stride: int | None) -> None:
        """Refuse a stride that the tower does not support.

        Args:
            stride: pixels between patches; ``None`` is the patch size.

        Raises:
            ArgumentError: ``stride``: it is another than the fixed one, or not between 1 and the patch size.
        """
        if stride is None or stride == self.patch:
            return
        if self.fixed_stride:
            reason = f"this model has a fixed stride of {self.patch} pixels; leave it out (other strides are for CLIPs)"
            raise ArgumentError("stride", stride, reason)
        if not 1 <= stride <= self.patch:
            raise ArgumentError("stride", stride, f"must be between 1 and the patch size {self.patch}")

    @property
    def bf16_on_cpu(self) -> bool:
        """Whether the tower is faster in bfloat16 on a CPU with bfloat16 instructions.

        Transformers are, since nearly all their work is matrix products; their only convolution has patches that do not
        overlap. Towers with other convolutional layers may not be: on some CPUs depthwise ones are 20 times slower.
        """
        layers = (layer for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return all(layer.kernel_size == layer.stride for layer in layers)

    @abstractmethod
    def forward(
        self, images: Tensor, variants: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        """Patch tokens.

        Args:
            images: normalised ``[B, 3, H, W]``. Images that the patches do not tile are padded at the right and bottom
                by repeating the border.
            variants: dense variants, each one of ``self.variants``.
            stride: pixels between patches; ``None`` is the patch size.
            positions: where an open_clip ViT's position embeddings are sampled on other grids than its own:
                ``centres``, or ``published``, see `pacl.models.towers.grid.PUBLISHED_MARGIN`. Other towers have no
                such embeddings, or leave them to the library that they come from: nothing changes.

        Returns:
            For each variant ``[B, P, W]``, and the patches' grid.

        Raises:
            UserError: the tower does not support that stride or size.
        """

    def pooled(self, images: Tensor) -> Tensor:
        """Embedding ``[B, D]`` of normalised square images, not normalised, in the space shared with the texts.

        Raises:
            UserError: there is no such space.
        """
        raise UserError("this image tower shares no space with texts; train a head for it first (python -m pacl.train)")

    def pooled_and_tokens(self, images: Tensor, variant: str) -> tuple[Tensor, Tensor]:
        """`pooled` ``[B, D]`` and the tokens ``[B, P, W]`` of square images of the native size."""
        return self.pooled(images), self(images, [variant])[0][0]

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """The weights that determine its tokens, by their names in the library that it comes from."""


class TextTower(nn.Module, ABC):
    """Texts -> embeddings.

    Attributes:
        dim: embedding width D.
        context_length: tokens that a text may have, start and end included; longer texts are truncated.
        quick_gelu: whether its activation is QuickGELU.
        architecture: what makes embeddings of its weights: its library's configuration, by `architecture_of`.
        vocabulary: the words that it was trained on; ``None`` means any.
        contrast: prompts that compete with a single prompt; ``None`` means that there are no such prompts.
        familiar: the smallest cosine with the nearest word of a vocabulary at which a word counts as known, see
            `pacl.models.vocabulary`; ``None`` where it was not measured or embedding a vocabulary takes too long.
    """

    dim: int
    context_length: int
    quick_gelu: bool = False
    architecture: str = ""
    vocabulary: frozenset[str] | None = None
    contrast: tuple[str, ...] | None = None
    familiar: float | None = None

    def pieces(self, word: str) -> list[str] | None:
        """The tokens that a word is read in, as text; an empty text stands for what is not read at all.

        ``None``: this is not known, or a transformer makes sense of words in pieces.
        """
        return None

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``[T, D]``, not normalised, on the tower's device."""

    @abstractmethod
    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end included."""

    def bucket(self, text: str) -> Hashable:
        """Texts of the same bucket, those that are padded to the same length, are encoded together."""
        return None

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """The weights that determine its embeddings, by their names in the library that it comes from."""


def architecture_of(configuration: Any) -> str:
    """12 hexadecimal digits that tell a library's configuration of a tower, JSON-serialisable, from others."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:12]


def local_path(path: str, name: str) -> Path:
    """The path of a file or folder in a model's name, with ``~`` expanded; it need not exist.

    Raises:
        ArgumentError: not a usable path: too long, or ``~`` with an unknown user.
    """
    try:
        expanded = Path(path).expanduser()
        expanded.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError("model", name, f"is not a usable path ({reason})") from None
    return expanded


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad ``[B, 3, H, W]`` at the right and bottom to ``size`` by repeating the border."""
    down, right = size[0] - images.shape[-2], size[1] - images.shape[-1]
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def layer_indices(layers: Sequence[int], count: int, what: str, usable: int | None = None) -> tuple[int, ...]:
    """Indices of layers, negative ones counted from the end, as ascending indices.

    Args:
        layers: the indices.
        count: number of layers.
        what: a description of the layers, for the message.
        usable: number of layers, from the first on, that may be chosen; ``None`` means all.

    Raises:
        ArgumentError: an index is out of range or given twice.
    """
    found = sorted(index + count if index < 0 else index for index in layers)
    usable = count if usable is None else usable
    if len(set(found)) < len(found) or any(not 0 <= index < usable for index in found):
        raise ArgumentError("layers", list(layers), f"choose from 0 to {usable - 1} of {what}, each once")
    return tuple(found)


@contextmanager
def size_errors(images: Tensor, size: int) -> Iterator[None]:
    """Turn the errors of a tower that does not support the size of its input into one line.

    Args:
        images: ``[B, 3, H, W]``, the input.
        size: the tower's own size, in pixels.

    Raises:
        UserError: the tower failed, and not for lack of memory or because of the device.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:
        if any(word in str(error) for word in ("memory", "CUDA", "cuda", "MPS")):
            raise
        given = "x".join(map(str, images.shape[-2:]))
        raise UserError(
            f"this image tower does not support {given} pixels ({first_line(error)}); use its own size, {size}"
        ) from error


def tensor_state(tensor: Tensor) -> tuple[int, int]:
    """Two numbers of which one changes when a tensor is written to (but not through its ``data``)."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def weight_state(weight: Tensor) -> tuple[int, int, int, str]:
    """Values of which one changes when a parameter or buffer is replaced or written to, see `tensor_state`.

    Another tensor may lie where a former one lay, so each gets a mark of its own, and another one with every step of an
    optimiser with ``fused=True``, whose writes PyTorch does not count. Nor does it count those to tensors of inference
    mode: some of their values are compared.
    """
    mark: int | None = getattr(weight, MARK, None)
    if mark is None:
        setattr(weight, MARK, mark := next(_MARKS))
    some = ""
    if weight.is_inference():
        values = weight.detach().flatten()
        some = str(values[:: max(1, len(values) // SAMPLED)].sum(dtype=torch.float64).item())
    return mark, *tensor_state(weight), some


def _mark_stepped(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimizer.param_groups:
        for weight in group["params"] if group.get("fused") else ():
            if hasattr(weight, MARK):
                setattr(weight, MARK, next(_MARKS))


register_optimizer_step_post_hook(_mark_stepped)  # of every optimiser


def weights_checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of tensors."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """A number that tells other weights apart, in a third of the time of `weights_checksum`: 0.1 s for 600 MB.

    It is made of names, shapes and the exact sum of the bits of each tensor, read as whole numbers, so it is the same
    on every device. Unlike a checksum it does not notice values that change places.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        total = int(value.detach().float().contiguous().view(torch.int32).sum(dtype=torch.int64))
        digest.update(f"{key}{tuple(value.shape)}{total}".encode())
    return digest.hexdigest()[:16]
