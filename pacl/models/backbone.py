"""Frozen backbones: an image tower (images -> patch tokens) and a text tower (texts -> embeddings).

Both towers may come from one CLIP:

============================ ============================================================================
``open_clip:NAME/TAG``       an open_clip architecture and a pretrained tag, a weight file, or ``random``
``hf-hub:ORG/REPO``          a hub repository with ``open_clip_config.json``
``local-dir:PATH``           a folder with ``open_clip_config.json`` and weights
``bundled``                  the small CLIP that is part of this package
============================ ============================================================================

or from a dual encoder that `pacl.pretrain` saved (see `pacl.models.dual`), also in a folder or a hub repository, or
from two models that were trained separately, ``IMAGE+TEXT``, such as
``timm:vit_small_patch14_dinov2.lvd142m+st:sentence-transformers/all-MiniLM-L6-v2``. The names of single towers, and how
to add a kind of tower, are described in `pacl.models.towers.registry`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pacl.errors import ArgumentError, UserError, ask_meant, did_you_mean
from pacl.files import parse_json
from pacl.json_values import has_type
from pacl.models.config import CONFIG, SHIPPED, is_head
from pacl.models.dual import find_dual, load_dual
from pacl.models.head import shipped_folder
from pacl.models.precision import check_conversion
from pacl.models.text_cache import TextCache
from pacl.models.towers.base import (
    Classifier,
    ImageTower,
    TextTower,
    local_path,
    weight_state,
    weights_checksum,
    weights_fingerprint,
)
from pacl.models.towers.dense import PROXY
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.open_clip_loading import pretrained_names
from pacl.models.towers.registry import (
    CLIPS,
    IMAGE_TOWERS,
    PROXY_MARK,
    TEXT_TOWERS,
    load_clip_towers,
    load_image_tower,
    load_text_tower,
    split_name,
)

TEXT_BATCH, GPU_TEXT_BATCH = 64, 512  # texts in one pass of the text tower
CPU_TEXT_MULTIPLE = 8  # on CPUs, batches of 8, 16 ... 64 texts give the same embeddings to the bit
OPENAI_B16 = "open_clip:ViT-B-16-quickgelu/openai"
OPENAI_NAMES = {
    other: f"open_clip:{name}-quickgelu/openai"
    for name, others in {
        "ViT-B-16": ("ViT-B/16", "openai/clip-vit-base-patch16"),
        "ViT-B-32": ("ViT-B/32", "openai/clip-vit-base-patch32"),
        "ViT-L-14": ("ViT-L/14", "openai/clip-vit-large-patch14"),
        "ViT-L-14-336": ("ViT-L/14@336px", "openai/clip-vit-large-patch14-336"),
    }.items()
    for other in others
}
"""What OpenAI's own code and transformers call models of OpenAI's -> the name here."""
EXAMPLE = "timm:vit_small_patch14_dinov2.lvd142m+st:sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_LOGIT_SCALE = 1 / 0.07  # CLIP's at the start of its training (Radford et al., 2021, section 2.5)


class Backbone(nn.Module):
    """A frozen image tower and text tower: no gradients, always in eval mode.

    Embedded texts and checksums are kept. They are dropped when other weights are loaded into a tower, but weights must
    not be written to by ``tensor.data``, which PyTorch does not count as a change.

    Args:
        image: the image tower.
        text: the text tower.
        name: the name that `load_backbone` takes.
        shared: whether both towers were trained for one embedding space; separately trained towers were not.
        logit_scale: CLIP's own inverse temperature, already exponentiated; ``None`` means 1 / 0.07.

    Attributes:
        image: the image tower.
        text: the text tower.
        name: the name that `load_backbone` takes.
        shared: whether image and text embeddings are in one space.
        width: token width W of the image tower.
        dim: embedding width D.
        patch: patch side in pixels.
        size: side in pixels of the square images that the image tower was trained on.
        mean: per-channel mean that images are normalised with, in [0, 1].
        std: per-channel standard deviation, in the same units.
        layers: indices of the earlier layers whose features are part of the tokens.
        logit_scale: CLIP's own inverse temperature, already exponentiated.
        quick_gelu: whether a tower uses QuickGELU.
        dense_variants: the dense variants that the image tower supports.
        context_length: maximum number of tokens of a text, start and end included.
        vocabulary: the words a small CLIP was trained on; ``None`` means any.
        contrast: prompts that compete with a single prompt; ``None`` means that there are no such prompts.
    """

    image: ImageTower
    text: TextTower

    def __init__(
        self,
        image: ImageTower,
        text: TextTower,
        name: str,
        *,
        shared: bool = False,
        logit_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.image = image.eval().requires_grad_(False)
        self.text = text.eval().requires_grad_(False)
        self.name = name
        self.shared = shared
        self.vocabulary = text.vocabulary
        self.contrast = text.contrast
        self.mean: tuple[float, ...] = tuple(image.preprocessing["mean"])
        self.std: tuple[float, ...] = tuple(image.preprocessing["std"])
        are_numbers = has_type([*self.mean, *self.std], list[float])
        if len(self.mean) != 3 or len(self.std) != 3 or not are_numbers or not all(value > 0 for value in self.std):
            values = f"mean {self.mean} and std {self.std}"
            raise ArgumentError("model", name, f"{values} must have three values each, std above 0")
        self.size = image.size
        self.patch = image.patch
        self.width = image.width
        self.layers = image.layers
        self.dense_variants = image.variants
        self.quick_gelu = image.quick_gelu or text.quick_gelu
        self.logit_scale = DEFAULT_LOGIT_SCALE if logit_scale is None else logit_scale
        self.context_length = text.context_length
        self.dim = text.dim
        self._forget()

    def __repr__(self) -> str:
        towers = "" if self.shared else "towers that were trained apart, "
        return f"<Backbone {self.name}: {towers}patches of {self.patch} pixels, embeddings of {self.dim} numbers>"

    def _forget(self) -> None:
        """Drop all that was computed from the weights."""
        batch, multiple = (TEXT_BATCH, CPU_TEXT_MULTIPLE) if self.device.type == "cpu" else (GPU_TEXT_BATCH, None)
        self._texts = TextCache(self._encode, batch, multiple, kind=self.text.bucket)
        self._checksum: str | None = None
        self._fingerprint: str | None = None
        self._tower_checksums: tuple[str, str] | None = None
        self._state = self._weights_state()

    def _weights_state(self) -> list[tuple[int, int, int, str]]:
        # (Buffers such as running means, too, but only those that are in checksums: others may change in a forward.)
        return [weight_state(tensor) for tensor in self.state_dict(keep_vars=True).values()]

    def _follow_weights(self) -> None:
        """`_forget`, if weights were replaced since, or moved."""
        if self._state != self._weights_state():
            self._forget()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        check_conversion(fn)
        return super()._apply(fn, recurse)

    @property
    def projection(self) -> Tensor | None:
        """The linear visual projection ``[W, D]`` into the space of the texts; ``None`` without one."""
        return self.image.projection

    @property
    def classifier(self) -> Classifier | None:
        """The linear classifier that the image tower was trained with, if any."""
        return self.image.classifier

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images are preprocessed for the image tower, with open_clip's keys, see `ImageTower`."""
        return self.image.preprocessing

    @property
    def device(self) -> torch.device:
        """Of the image tower's weights."""
        return next(self.image.parameters()).device

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode, also when a parent module is set to training mode."""
        return super().train(False)

    def normalize(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]``, uint8 or float in [0, 1] -> normalised input of the image tower, float32."""
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        mean = torch.tensor(self.mean, dtype=torch.float32, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32, device=images.device).view(3, 1, 1)
        return (images - mean) / std

    def patch_tokens(self, images: Tensor, dense: str = "clip", stride: int | None = None) -> tuple[Tensor, PatchGrid]:
        """Patch tokens after the image tower's last normalisation, before any projection.

        Args:
            images: normalised ``[B, 3, H, W]``, any H and W.
            dense: variant of the last block, see `pacl.models.towers.dense`.
            stride: pixels between patches; ``None`` is the patch size. With smaller strides, patches overlap.

        Returns:
            Tokens ``[B, P, W]`` and their `PatchGrid`.

        Raises:
            ArgumentError: the tower does not support that variant or stride.
        """
        (tokens,), grid = self.patch_tokens_of(images, [dense], stride)
        return tokens, grid

    @torch.no_grad()
    def patch_tokens_of(
        self, images: Tensor, dense: Sequence[str], stride: int | None = None, positions: str = "centres"
    ) -> tuple[list[Tensor], PatchGrid]:
        """`patch_tokens` in several dense variants, in this order; shared layers are computed once.

        ``positions`` is as in `pacl.models.towers.base.ImageTower.forward`.
        """
        for variant in dense:
            self.check_dense(variant)
        self.image.check_stride(stride)
        return self.image(images, dense, stride, positions)

    def compile_image_tower(self) -> None:
        """Run the image tower through `torch.compile` from now on; results differ by rounding only.

        The first image then takes a minute or more, and so does the first of a second size, which is compiled for any
        size.

        Raises:
            UserError: there is no C++ compiler, which torch calls.
        """
        from torch._inductor import cpp_builder, exc

        try:
            cpp_builder.get_cpp_compiler()
        except exc.InvalidCxxCompiler:
            raise UserError("torch.compile needs a C++ compiler: install g++, or name one in CXX") from None
        self.image.compile()

    def check_dense(self, dense: str) -> None:
        """Raise an `ArgumentError` unless the image tower supports this dense variant."""
        if dense not in self.dense_variants:
            able = ", ".join(self.dense_variants)
            hint = f"; add a proxy to its name: {self.name}{PROXY_MARK}timm:NAME" if dense == PROXY else ""
            raise ArgumentError("dense", dense, f"the image tower of {self.name} supports {able}{hint}")

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Pooled embedding of normalised square images at the native size: ``[B, D]``, unit norm.

        Raises:
            ArgumentError: the towers have no shared embedding space.
        """
        self._check_shared()
        return F.normalize(self.image.pooled(images), dim=-1)

    @torch.no_grad()
    def encode_image_and_tokens(self, images: Tensor, dense: str) -> tuple[Tensor, Tensor]:
        """`encode_image` ``[B, D]`` and `patch_tokens` ``[B, P, W]`` of square native-size images, in one pass."""
        self._check_shared()
        self.check_dense(dense)
        pooled, tokens = self.image.pooled_and_tokens(images, dense)
        return F.normalize(pooled, dim=-1), tokens

    def _check_shared(self) -> None:
        if not self.shared:
            raise ArgumentError(
                "model",
                self.name,
                "its image and text tower were trained apart, so that its pooled embedding is not in the space of its "
                "texts; use phi, or a CLIP",
            )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``[T, D]`` of texts, of unit norm, without templates; equal texts are computed once."""
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not a string")
        if not texts:
            return torch.empty(0, self.dim, device=self.device)
        self._follow_weights()
        return self._texts(texts).to(self.device)

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> Tensor:
        # Always in full precision: cached embeddings must not depend on the autocast context of the first call.
        with torch.autocast(self.device.type, enabled=False):
            return F.normalize(self.text.encode(texts).float(), dim=-1)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, start and end included; above ``context_length`` it is truncated."""
        return self.text.count_tokens(text)

    @property
    def image_name(self) -> str:
        """The image tower's name: the first of two names, else the whole name."""
        return (split_name(self.name) or (self.name,))[0]

    def image_checksum(self) -> str:
        """Checksum of the image tower's weights; for a CLIP or a dual encoder, `checksum`."""
        return self.checksum() if self.shared else self._checksums_of_towers()[0]

    def checksum(self) -> str:
        """Checksum of all weights.

        For a CLIP or a dual encoder it is the `weights_checksum` of all weights, for two separately trained towers the
        SHA-256 of both towers' checksums.
        """
        self._follow_weights()
        if self._checksum is None:
            if self.shared:
                self._checksum = weights_checksum({**self.image.weights(), **self.text.weights()})
            else:
                self._checksum = hashlib.sha256("+".join(self._checksums_of_towers()).encode()).hexdigest()
        return self._checksum

    @property
    def fingerprint(self) -> str:
        """The `weights_fingerprint` of all weights."""
        self._follow_weights()
        if self._fingerprint is None:
            both = (self.image.weights(), self.text.weights())
            self._fingerprint = "".join(weights_fingerprint(weights) for weights in both)
        return self._fingerprint

    def _checksums_of_towers(self) -> tuple[str, str]:
        """Checksums of the image tower and of the text tower."""
        self._follow_weights()
        if self._tower_checksums is None:
            self._tower_checksums = weights_checksum(self.image.weights()), weights_checksum(self.text.weights())
        return self._tower_checksums


def load_backbone(name: str, *, quick_gelu: bool | None = None, layers: Sequence[int] | None = None) -> Backbone:
    """Load a frozen backbone by its name (see the module's docstring).

    Args:
        name: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO``, ``local-dir:PATH``, ``bundled``, or ``IMAGE+TEXT``.
        quick_gelu: whether CLIPs use QuickGELU; ``None`` means as in the training of the tag, or, for a CLIP without a
            tag, as in its configuration.
        layers: indices of earlier layers of the image tower whose features precede the final ones in every token.

    Raises:
        UserError: unknown name or tag, weights that are neither cached nor reachable, an unreadable folder.
    """
    layers = tuple(layers or ())
    if files := find_dual(name):
        image, text, dual_name, logit_scale = load_dual(name, files, quick_gelu=quick_gelu, layers=layers)
        return Backbone(image, text, dual_name, shared=True, logit_scale=logit_scale)
    if both := split_name(name):
        image, image_name = load_image_tower(both[0], quick_gelu=quick_gelu, layers=layers)
        text, text_name = load_text_tower(both[1], quick_gelu=quick_gelu)
        return Backbone(image, text, f"{image_name}+{text_name}")
    if clip := load_clip_towers(name, quick_gelu=quick_gelu, layers=layers):
        image, text, clip_name, logit_scale = clip
        return Backbone(image, text, clip_name, shared=True, logit_scale=logit_scale)
    if name.partition(":")[0] in {*IMAGE_TOWERS, *TEXT_TOWERS} - {*CLIPS}:
        raise ArgumentError("model", name, f"one of two towers; use IMAGE+TEXT, such as {EXAMPLE}")
    path = local_path(name, name)
    if head := _backbone_of_head(shipped_folder(name) if name in SHIPPED else path):
        where = f"its backbone is {head}; in Python, load_model({name!r}).clip"
        raise ArgumentError("model", name, f"is a trained head on a backbone; {where}")
    folders = [str(other) for other in path.parent.glob("*") if other.is_dir()] if path.parent.is_dir() else []
    if name in OPENAI_NAMES:
        meant = ask_meant([OPENAI_NAMES[name]])
    else:
        meant = did_you_mean(name, ("auto", "photos", "bundled", *folders)) or ask_meant(pretrained_names(name)[:1])
    problem = "no such folder" if len(path.parts) > 1 else "not a model name, and no such folder"
    advice = (
        "use auto, photos, bundled, open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH, "
        "IMAGE+TEXT (timm:NAME+st:ORG/NAME) or the path of a saved head"
    )
    if meant:
        advice = f"{meant} Or {advice}"
    raise ArgumentError("model", name, f"{problem}; {advice}")


def _backbone_of_head(folder: Path) -> str | None:
    """The name of the backbone of a trained head; None where there is no head."""
    if not is_head(folder / CONFIG):
        return None
    try:
        return str(parse_json((folder / CONFIG).read_text(encoding="utf-8"))["backbone"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
