"""`PACL`: a frozen backbone, such as a CLIP, with a trained patch embedder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write, write_together
from pacl.models.backbone import Backbone, load_backbone
from pacl.models.card import TAGS, TASK, TrainingRun, with_hub_fields, write_card
from pacl.models.compatibility import compatibility
from pacl.models.config import CARD, CONFIG, WEIGHTS
from pacl.models.embedder import ConSE, PatchEmbedder, SideBySide, class_texts, smooth
from pacl.models.head import HeadConfig, HeadSettings, find_head
from pacl.models.precision import check_conversion
from pacl.models.towers.base import weight_state, weights_checksum
from pacl.models.towers.grid import PatchGrid
from pacl.prompts import GENERIC_CONTRAST, fill

MAX_LOGIT_SCALE = 100.0  # CLIP's own clamp (Radford et al., 2021, section 2.5)


class PACL(nn.Module, PyTorchModelHubMixin, library_name="pacl", pipeline_tag=TASK, tags=[*TAGS]):
    """A frozen backbone with a patch embedder, which maps its patch tokens into the space of text embeddings.

    Only the embedder, the two temperatures and the optional text layer have gradients, and only they are saved.

    Attributes:
        clip: the frozen backbone.
        embedder: patch tokens [.., W] -> patch embeddings [.., D].
        text_embedder: identity, or a linear layer on the backbone's text embeddings.
        config: the configuration of the head.
        centre: mean patch vector ``[D]`` over photos of many things; ``None`` before the head is calibrated. Its
            product with a text embedding is the mean cosine of patches with that text.
        name: by which `pacl.models.loading.load_model` took it, never ``auto``; ``None`` for a model that was made in
            another way.
        card: the model card that came with a loaded head, which is saved with it again; ``None`` writes a new one.
    """

    card: str | None = None
    centre: Tensor | None
    name: str | None = None

    def __init__(self, clip: Backbone, config: HeadConfig) -> None:
        super().__init__()
        clip.check_dense(config.dense)
        config.check()
        self.clip = clip
        self.config = config
        self.embedder, self.text_embedder = _start(clip, config)
        self.log_temperature = nn.Parameter(
            torch.tensor(config.temperature).log(), requires_grad=config.learn_temperature
        )
        centre = torch.zeros(config.vector_width) if config.calibrated else None
        self.register_buffer("centre", centre)
        self.log_logit_scale = nn.Parameter(torch.tensor(min(config.logit_scale, MAX_LOGIT_SCALE)).log())
        self._checksums: dict[str, tuple[object, str]] = {}  # of parts, with the state of the tensors then

    @classmethod
    def untrained(cls, clip: Backbone, settings: HeadSettings | None = None, **changes: Any) -> PACL:
        """A head before training: with ``start="clip"``, CLIP's own projection of the dense variant's tokens.

        Args:
            clip: the frozen backbone.
            settings: settings of the head; ``None`` means the defaults.
            **changes: single settings that replace those in ``settings``.
        """
        settings = dataclasses.replace(settings or HeadSettings(), **changes)
        chosen = {name: getattr(settings, name) for name in HeadSettings.__dataclass_fields__}
        chosen["hidden"] = clip.dim if settings.hidden is None else settings.hidden
        chosen["logit_scale"] = clip.logit_scale if settings.logit_scale is None else settings.logit_scale
        config = HeadConfig(
            backbone=clip.name,
            quick_gelu=clip.quick_gelu,
            width=clip.width,
            dim=clip.dim,
            size=clip.size,
            mean=list(clip.mean),
            std=list(clip.std),
            layers=list(clip.layers),
            contrast=list(GENERIC_CONTRAST if clip.contrast is None else clip.contrast),
            **{**chosen, "scales": list(settings.scales)},
        )
        model = cls(clip, config)
        for module in model.embedder.modules():
            if isinstance(module, ConSE) and clip.classifier is not None:
                module.embeddings.copy_(clip.encode_text(class_texts(clip.classifier)))
        return model

    def __repr__(self) -> str:
        config = self.config
        name = self.name or "without a name"
        head = f"{'trained' if config.trained else 'untrained'} head ({config.start})"
        return (
            f"<PACL {name}: {self.clip!r}, dense variant {config.dense}, {head}, images of {config.size} pixels, "
            f"on {self.device}>"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PACL:
        check_conversion(fn)
        return super()._apply(fn, recurse)

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.log_logit_scale.device

    @property
    def temperature(self) -> Tensor:
        """Pooling temperature, a scalar tensor: that of the configuration, or the learned one, with gradient."""
        if self.config.learn_temperature:
            return self.log_temperature.exp()
        return self.log_temperature.new_tensor(self.config.temperature)

    @property
    def logit_scale(self) -> Tensor:
        """Inverse temperature of the softmax over texts; training limits it to `MAX_LOGIT_SCALE`."""
        return self.log_logit_scale.exp()

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Frozen patch tokens ``[B, P, W]`` -> unit patch embeddings v ``[B, P, D]``: the trained part."""
        return F.normalize(self.embedder(tokens).float(), dim=-1)

    def encode_patches(
        self, images: Tensor, stride: int | None = None, dense: str | None = None
    ) -> tuple[Tensor, PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` of any size -> `patch_vectors` ``[B, P, D]`` and their grid."""
        tokens, grid = self.clip.patch_tokens(images, dense or self.config.dense, stride)
        return self.patch_vectors(tokens), grid

    def patch_vectors(self, tokens: Tensor) -> Tensor:
        """Frozen tokens of whole images ``[B, P, W]`` -> patch embeddings ``[B, P, D]``, smoothed if configured.

        Without smoothing they are `embed_tokens`, of unit norm.
        """
        v = self.embed_tokens(tokens)
        return smooth(v, tokens, self.config.smoothing) if self.config.smoothing else v

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts, without templates -> unit embeddings ``[T, D]``; the frozen part is cached."""
        return F.normalize(self.text_embedder(self.clip.encode_text(texts)), dim=-1)

    def encode_prompts(self, prompts: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
        """Prompts -> the mean of their unit embeddings in all templates, normalised again, ``[N, D]``."""
        texts = [fill(template, prompt) for prompt in prompts for template in templates]
        embedded = rearrange(self.encode_text(texts), "(n k) d -> n k d", k=len(templates))
        return F.normalize(embedded.mean(dim=1), dim=-1)

    def phi(self, patches: Tensor, texts: Tensor) -> Tensor:
        """phi ``[B, T]`` of patch embeddings ``[B, P, D]`` and text embeddings ``[T, D]``, with this head's pooling."""
        temperature = self.temperature if self.config.learn_temperature else self.config.temperature
        return compatibility(patches, texts, temperature=temperature, cosine=self.config.cosine)

    # --- saving and loading ---

    def head_state(self, keep_vars: bool = False) -> dict[str, Tensor]:
        """The tensors of the head: all except those of the frozen backbone; ``keep_vars`` as for `state_dict`."""
        state = self.state_dict(keep_vars=keep_vars)
        return {key: value for key, value in state.items() if not key.startswith("clip.")}

    def head_checksum(self) -> str:
        """Checksum of what the head computes, so that a model without a trained head has the same on every machine.

        Left out is what decides nothing or follows from the backbone: before training, the random first layer of the
        ``clip`` start, whose branch is multiplied by zero, and the text embeddings of the ``conse`` start.
        """
        return self.part_checksum("")

    def part_checksum(self, part: str) -> str:
        """`head_checksum` of the tensors whose names begin with ``part``, such as ``embedder.``."""
        state = {key: value for key, value in self.head_state(keep_vars=True).items() if key.startswith(part)}
        now = (self.config.trained, [(key, weight_state(value)) for key, value in state.items()])
        if part not in self._checksums or self._checksums[part][0] != now:
            self._checksums[part] = now, self._part_checksum(state)
        return self._checksums[part][1]

    def _part_checksum(self, state: dict[str, Tensor]) -> str:
        for name, module in self.named_modules():
            if isinstance(module, PatchEmbedder) and not any(each.any() for each in module.main[-1].parameters()):
                state = {key: value for key, value in state.items() if not key.startswith(f"{name}.main.0.")}
            if isinstance(module, ConSE) and not self.config.trained:
                state.pop(f"{name}.embeddings", None)
        return weights_checksum(state)

    def load_head_state(self, state: dict[str, Tensor], source: str) -> None:
        """Load the tensors of `head_state`.

        Args:
            state: the tensors.
            source: name of their file, for error messages.

        Raises:
            UserError: the tensors do not match the configuration, or contain values that are not finite.
        """
        if self.centre is None:  # the calibration was interrupted before it wrote the configuration
            state = {key: value for key, value in state.items() if key != "centre"}
        expected = {key: value.shape for key, value in self.head_state().items()}
        if expected != {key: value.shape for key, value in state.items()}:
            raise UserError(f"{source}: its tensors do not match its configuration; the files are of different heads")
        if any(not value.is_floating_point() for value in state.values()):
            raise UserError(f"{source}: has values that are no real numbers in floating point; the head is damaged")
        # (the logarithm of mean pooling's temperature is infinite)
        if any(
            value.isnan().any() or (value.isinf().any() and key != "log_temperature") for key, value in state.items()
        ):
            raise UserError(f"{source}: has values that are not finite; the head is damaged, train it again")
        self.load_state_dict(state, strict=False)

    def write_card(self, run: TrainingRun | None = None) -> str:
        """The model card of this head, with facts about its training if there was one."""
        learned = self.temperature.item() if self.config.learn_temperature else None
        self.config.checksum = self.clip.checksum()
        return write_card(self.config, run, learned)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        card: str | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> str | None:
        """Write ``config.json``, ``model.safetensors`` (the head only) and a model card to a folder.

        All files are written, or none: those of an older head there stay together.

        Args:
            save_directory: folder, made if needed.
            card: the model card's text (Markdown); ``None`` keeps the one that was loaded, or writes a short one.
            model_card_kwargs: fields of the card that the hub reads, such as ``{"datasets": ["me/photos"]}``.
            repo_id: hub repository to push to; the folder's name by default.
            push_to_hub: also push to the hub.
            **kwargs: passed to ``push_to_hub``.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(save_directory)
        self.config.checksum = self.clip.checksum()
        state = {key: value.detach().cpu().contiguous() for key, value in self.head_state().items()}
        card = card or self.card or self.write_card()
        if model_card_kwargs:
            card = with_hub_fields(card, **model_card_kwargs)
        # The configuration is written last: if it exists, the other files are complete.
        with write_together():
            for name, content in (
                (WEIGHTS, save(state)),
                (CARD, card.encode()),
                (CONFIG, self.config.to_json().encode()),
            ):
                with atomic_write(folder / name) as aside:
                    aside.write_bytes(content)
        if push_to_hub:
            self.card = card
            return self.push_to_hub(repo_id=repo_id or folder.name, **kwargs)
        return None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, clip: Backbone | None = None, **hub: Any
    ) -> PACL:
        """Load a saved head and its backbone.

        Args:
            pretrained_model_name_or_path: ``photos``, ``bundled``, a folder written by `save_pretrained`, or a hub
                repository.
            clip: an already loaded backbone, which must have the same weights as the one in the configuration.
            **hub: options of ``hf_hub_download``, such as ``revision``, ``token`` or ``cache_dir``.

        Raises:
            UserError: there is no head, or it was trained on another backbone or activation.
        """
        config_path, weights_path = find_head(str(pretrained_model_name_or_path), **hub)
        config = HeadConfig.read(config_path)
        clip = clip or load_backbone(config.backbone, layers=config.layers)
        _check_backbone(clip, config, str(config_path))
        _check_size(config, config_path, weights_path)
        try:
            model = cls(clip, config)
        except ArgumentError as error:
            raise UserError(f"{config_path}: {error}") from error
        try:
            model.load_head_state(load_file(weights_path), str(weights_path))
        except (OSError, SafetensorError) as error:
            raise UserError(f"{weights_path} cannot be read ({error}); save or download it again") from error
        with suppress(OSError, UnicodeDecodeError):  # a card is no part of the model
            model.card = config_path.with_name(CARD).read_text(encoding="utf-8")
        return model


def _check_backbone(clip: Backbone, config: HeadConfig, source: str) -> None:
    if clip.quick_gelu != config.quick_gelu:
        raise UserError(
            f"{source}: this head was trained with quick_gelu={config.quick_gelu}, but {clip.name} has "
            f"quick_gelu={clip.quick_gelu}; use the CLIP it was trained on"
        )
    for name in ("mean", "std", "layers"):
        if (given := list(getattr(clip, name))) != (trained := getattr(config, name)):
            raise UserError(
                f"{source}: this head was trained with {name} {trained}, but {clip.name} has {given}; use the CLIP it "
                "was trained on"
            )
    if (clip.width, clip.dim) != (config.width, config.dim) or clip.checksum() != config.checksum:
        raise UserError(
            f"{source}: this head was trained on other weights of {config.backbone} "
            f"(checksum {config.checksum[:12]}, got {clip.checksum()[:12]}); use those"
        )


def _check_size(config: HeadConfig, config_path: Path, weights_path: Path) -> None:
    """Refuse a layer that is larger than its weight file, before memory is allocated for it."""
    needed, held = 4 * config.hidden * (config.width + config.vector_width), weights_path.stat().st_size
    if config.hidden > 2**16 and needed > 4 * held:  # (files of half precision or of fewer spaces are smaller)
        raise UserError(
            f"{config_path}: hidden {config.hidden} needs {needed / 1e9:,.1f} GB of memory, and {weights_path.name} "
            f"holds {held / 1e6:,.1f} MB; save or download the head again"
        )


def _start(clip: Backbone, config: HeadConfig) -> tuple[nn.Module, nn.Module]:
    """The embedders of patch tokens and of text embeddings before training."""
    text = _identity_linear(clip.dim) if config.text == "linear" else nn.Identity()
    if config.start == "paper":
        return PatchEmbedder(config.width, config.dim, config.hidden), text
    if config.start == "conse":
        return _start_conse(clip, config)
    if clip.projection is None:
        other = "paper or conse" if clip.classifier else "paper"
        raise ArgumentError("start", "clip", f"the image tower of {clip.name} has no linear projection; use {other}")
    return PatchEmbedder.start_clip(clip.projection, config.hidden), text


def _start_conse(clip: Backbone, config: HeadConfig) -> tuple[nn.Module, nn.Module]:
    if clip.classifier is None:
        raise ArgumentError(
            "start", "conse", f"the image tower of {clip.name} has no linear classifier of known classes; use paper"
        )
    conse = ConSE(clip.classifier, clip.dim)
    if config.conse_share == 1:
        return conse, nn.Identity()
    embedder = PatchEmbedder(config.width, config.space, config.hidden)
    text = nn.Linear(clip.dim, config.space)
    return SideBySide(conse, embedder, config.conse_share), SideBySide(nn.Identity(), text, config.conse_share)


def _identity_linear(dim: int) -> nn.Linear:
    layer = nn.Linear(dim, dim)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
