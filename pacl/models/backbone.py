"""Frozen backbones: an image tower (images -> patch tokens) and a text tower (texts -> embeddings).

Both towers may come from one CLIP:

============================ ============================================================================
``open_clip:NAME/TAG``       an open_clip architecture and a pretrained tag, a weight file, or ``random``
``hf-hub:ORG/REPO``          a hub repository with ``open_clip_config.json``
``local-dir:PATH``           a folder with ``open_clip_config.json`` and weights
``bundled``                  the small CLIP that is part of this package
============================ ============================================================================

or from a dual encoder that `pacl.pretrain` saved (see `pacl.models.dual`), also in a folder or a hub repository, or
from two models that were trained separately, ``IMAGE+TEXT``. Each of these is one of the above, of which one tower is
used, or, for images,

============================ ============================================================================
``timm:NAME[.TAG]``          a timm model with its pretrained weights
``timm:NAME/FILE``           a timm model with the weights of a local file
``timm:NAME/random``         a timm model with random weights from a fixed seed
============================ ============================================================================

and for texts

============================ ============================================================================
``st:ORG/NAME``              a sentence-transformers model
``st:FOLDER``                the same from a local folder: ``st:/...``, ``st:./...``, ``st:~/...``
``static:words``             token vectors that are part of this package (see `pacl.models.towers.static_tower`)
``static:FOLDER``            token vectors in a local folder
============================ ============================================================================

such as ``timm:vit_small_patch14_dinov2.lvd142m+st:sentence-transformers/all-MiniLM-L6-v2``. How to add a kind of
tower is described in `pacl.models.towers.base`.

After the name of a CLIP, ``,proxy=IMAGE`` names a second image tower for the dense variant ``proxyclip`` (see
`pacl.models.towers.proxy`): ``open_clip:ViT-B-16-quickgelu/openai,proxy=timm:vit_base_patch8_224.dino``.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pacl.errors import ArgumentError, UserError
from pacl.models.text_cache import TextCache
from pacl.models.towers.base import Classifier, ImageTower, TextTower
from pacl.models.towers.dense import PROXY
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.open_clip_loading import bundled_folder, is_clip_name, load_clip
from pacl.models.towers.open_clip_towers import OpenClipText, image_tower
from pacl.models.towers.proxy import ProxyTower
from pacl.models.towers.sentence_tower import load_sentence_tower
from pacl.models.towers.static_tower import load_static_tower
from pacl.models.towers.timm_tower import load_timm

__all__ = [
    "OPENAI_B16",
    "Backbone",
    "bundled_folder",
    "load_backbone",
    "load_image_tower",
    "load_text_tower",
    "split_name",
    "weights_checksum",
]

TEXT_BATCH, GPU_TEXT_BATCH = 64, 512  # texts in one pass of the text tower
CPU_TEXT_MULTIPLE = 8  # on CPUs, batches of 8, 16 ... 64 texts give the same embeddings to the bit
OPENAI_B16 = "open_clip:ViT-B-16-quickgelu/openai"
EXAMPLE = "timm:vit_small_patch14_dinov2.lvd142m+st:sentence-transformers/all-MiniLM-L6-v2"
PROXY_MARK = ",proxy="  # between the names of a CLIP and of its proxy
DEFAULT_LOGIT_SCALE = 1 / 0.07  # CLIP's at the start of its training (Radford et al., 2021, section 2.5)


class Backbone(nn.Module):
    """A frozen image tower and text tower: no gradients, always in eval mode.

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
        size: side in pixels of the square images it was trained on.
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
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
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
        self._texts = TextCache(self._encode, kind=text.bucket)
        self._checksum: str | None = None

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
        """Preprocessing of the image tower's images, with open_clip's keys, see `ImageTower`."""
        return self.image.preprocessing

    @property
    def device(self) -> torch.device:
        return next(self.image.parameters()).device

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode, also when a parent module is set to training mode."""
        return super().train(False)

    def normalize(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]``, uint8 or float in [0, 1] -> normalised input of the image tower, float32."""
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
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
        self, images: Tensor, dense: Sequence[str], stride: int | None = None
    ) -> tuple[list[Tensor], PatchGrid]:
        """`patch_tokens` in several dense variants, in this order; shared layers are computed once."""
        for variant in dense:
            self.check_dense(variant)
        if stride is not None and not 1 <= stride <= self.patch:
            raise ArgumentError("stride", stride, f"must be between 1 and the patch size {self.patch}")
        return self.image(images, dense, stride)

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
                "its image and text tower were trained apart and share no space yet; train a "
                "head for it (python -m pacl.train with start: paper)",
            )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts without templates -> embeddings ``[T, D]`` of unit norm; each different text is computed once."""
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, not a string")
        if not texts:
            return torch.empty(0, self.dim, device=self.device)
        on_cpu = self.device.type == "cpu"
        self._texts.batch, self._texts.multiple = (TEXT_BATCH, CPU_TEXT_MULTIPLE) if on_cpu else (GPU_TEXT_BATCH, None)
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
        return self.checksum() if self.shared else self._tower_checksums[0]

    def checksum(self) -> str:
        """Checksum of all weights.

        For a CLIP or a dual encoder it is the `weights_checksum` of all weights, for two separately trained towers the
        SHA-256 of both towers' checksums.
        """
        if self._checksum is None:
            if self.shared:
                self._checksum = weights_checksum({**self.image.weights(), **self.text.weights()})
            else:
                self._checksum = hashlib.sha256("+".join(self._tower_checksums).encode()).hexdigest()
        return self._checksum

    @cached_property
    def _tower_checksums(self) -> tuple[str, str]:
        """Checksums of the image tower and of the text tower."""
        return weights_checksum(self.image.weights()), weights_checksum(self.text.weights())


def weights_checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of tensors."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


# --- loading ---

ImageLoader: TypeAlias = Callable[[str, "bool | None", Sequence[int]], tuple[ImageTower, str]]
TextLoader: TypeAlias = Callable[[str, "bool | None"], tuple[TextTower, str]]


def _clip_image(name: str, quick_gelu: bool | None, layers: Sequence[int]) -> tuple[ImageTower, str]:
    _check_clip_name(name)
    found = load_clip(name, quick_gelu)
    return image_tower(found, layers), found.name


def _clip_text(name: str, quick_gelu: bool | None) -> tuple[TextTower, str]:
    _check_clip_name(name)
    found = load_clip(name, quick_gelu)
    return OpenClipText(found), found.name


def _check_clip_name(name: str) -> None:
    if not is_clip_name(name):
        raise ArgumentError("model", name, "not a model; use open_clip:NAME/TAG, hf-hub:ORG/REPO or local-dir:PATH")


def _timm_image(name: str, quick_gelu: bool | None, layers: Sequence[int]) -> tuple[ImageTower, str]:
    return load_timm(name, layers)


def _sentence_text(name: str, quick_gelu: bool | None) -> tuple[TextTower, str]:
    return load_sentence_tower(name)


def _static_text(name: str, quick_gelu: bool | None) -> tuple[TextTower, str]:
    return load_static_tower(name)


# Part of a name before the colon -> loader. Loaders take the whole name, the activation (see `load_backbone`) and, for
# image towers, the layers, and return the tower and its name, in which paths are absolute.
_CLIPS = ("open_clip", "hf-hub", "local-dir", "bundled")
IMAGE_TOWERS: dict[str, ImageLoader] = {**dict.fromkeys(_CLIPS, _clip_image), "timm": _timm_image}
TEXT_TOWERS: dict[str, TextLoader] = {
    **dict.fromkeys(_CLIPS, _clip_text),
    "st": _sentence_text,
    "static": _static_text,
}


def split_name(name: str) -> tuple[str, str] | None:
    """The two names in ``IMAGE+TEXT``; ``None`` for the name of one model, whose path may contain a ``+``."""
    for mark in re.finditer(r"\+", name):
        image, text = name[: mark.start()], name[mark.end() :]
        if image.partition(":")[0] in IMAGE_TOWERS and text.partition(":")[0] in TEXT_TOWERS:
            return image, text
    return None


def load_image_tower(
    name: str, *, quick_gelu: bool | None = None, layers: Sequence[int] = ()
) -> tuple[ImageTower, str]:
    """Load an image tower by its name in ``IMAGE+TEXT``; returns the tower and its name with absolute paths."""
    base, mark, proxy = name.partition(PROXY_MARK)
    load = IMAGE_TOWERS.get(base.partition(":")[0])
    if load is None:
        raise ArgumentError("model", name, "not an image tower; use timm:NAME or open_clip:NAME/TAG")
    image, label = load(base, quick_gelu, layers)
    return _add_proxy(image, label, proxy) if mark else (image, label)


def load_text_tower(name: str, *, quick_gelu: bool | None = None) -> tuple[TextTower, str]:
    """Load a text tower by its name in ``IMAGE+TEXT``; returns the tower and its name with absolute paths."""
    load = TEXT_TOWERS.get(name.partition(":")[0])
    if load is None:
        raise ArgumentError("model", name, "not a text tower; use st:ORG/NAME or open_clip:NAME/TAG")
    return load(name, quick_gelu)


def _add_proxy(image: ImageTower, name: str, proxy: str) -> tuple[ImageTower, str]:
    """A CLIP's image tower combined with a proxy, and the name of both."""
    tower, proxy = load_image_tower(proxy)
    try:
        return ProxyTower(image, tower), f"{name}{PROXY_MARK}{proxy}"
    except UserError as error:
        raise ArgumentError("model", f"{name}{PROXY_MARK}{proxy}", str(error)) from None


def load_backbone(name: str, *, quick_gelu: bool | None = None, layers: Sequence[int] | None = None) -> Backbone:
    """Load a frozen backbone by its name (see the module's docstring).

    Args:
        name: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO``, ``local-dir:PATH``, ``bundled``, or ``IMAGE+TEXT``.
        quick_gelu: whether CLIPs use QuickGELU; ``None`` means as the tag was trained, else as the configuration says.
        layers: indices of earlier layers of the image tower whose features come before the final ones in every token.

    Raises:
        UserError: unknown name or tag, weights that are neither cached nor reachable, an unreadable folder.
    """
    from pacl.models.dual import find_dual, load_dual  # (imports this module)

    if files := find_dual(name):
        return load_dual(name, files, quick_gelu=quick_gelu, layers=layers)
    layers = tuple(layers or ())
    if both := split_name(name):
        image, image_name = load_image_tower(both[0], quick_gelu=quick_gelu, layers=layers)
        text, text_name = load_text_tower(both[1], quick_gelu=quick_gelu)
        return Backbone(image, text, f"{image_name}+{text_name}")
    base, mark, proxy = name.partition(PROXY_MARK)
    if is_clip_name(base):
        found = load_clip(base, quick_gelu)
        image = image_tower(found, layers)
        label = found.name
        if mark:
            image, label = _add_proxy(image, label, proxy)
        return Backbone(
            image,
            OpenClipText(found),
            label,
            shared=True,
            logit_scale=float(found.clip.logit_scale.detach().exp()),
        )
    scheme = name.partition(":")[0]
    if scheme in {*IMAGE_TOWERS, *TEXT_TOWERS} - {*_CLIPS}:
        raise ArgumentError("model", name, f"one of two towers; use IMAGE+TEXT, such as {EXAMPLE}")
    close = difflib.get_close_matches(name, ("auto", "photos", "bundled"), n=1)
    raise ArgumentError(
        "model",
        name,
        "not a model name; "
        + (f"did you mean {close[0]}? Or " if close else "")
        + "use auto, photos, bundled, open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH, "
        + "IMAGE+TEXT (timm:NAME+st:ORG/NAME) or the path of a saved head",
    )
