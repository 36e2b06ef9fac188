"""`PACL`: a frozen CLIP with a trained patch embedder, what both say, and how the head is saved and loaded."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pacl.errors import ArgumentError, UserError
from pacl.files import atomic_write
from pacl.models.backbone import OFFLINE_ADVICE, Backbone, bundled_folder, load_backbone
from pacl.models.card import write_card
from pacl.models.compatibility import compatibility
from pacl.models.embedder import STARTS, ConSE, PatchEmbedder, SideBySide, class_texts, smooth
from pacl.models.towers.grid import PatchGrid
from pacl.models.towers.hub import fail_fast
from pacl.prompts import GENERIC_CONTRAST, fill

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
HEAD_FORMAT = "pacl-head"  # tells our config.json from those of other libraries
JSON_TYPES: dict[str, Any] = {  # of the fields of a `HeadConfig`, as they are written there
    "str": str,
    "Start": str,
    "TextEmbedder": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "list[float]": list,
    "list[str]": list,
    "list[int]": list,
}
MAX_LOGIT_SCALE = 100.0  # CLIP's own clamp (Radford et al., 2021, section 2.5)


Start = Literal["clip", "paper", "conse"]
TextEmbedder = Literal["identity", "linear"]


@dataclass(kw_only=True)
class HeadSettings:
    """Settings of a head, with the defaults of `PACL.untrained` and of training.

    Attributes:
        dense: variant of the last block that computes the patch tokens: clip, value, maskclip, sclip, clearclip
            or naclip; proxyclip for a backbone with a proxy. The paper's is clip.
        start: of the patch embedder: "clip" is CLIP's own visual projection, "paper" random weights, "conse" random
            weights beside the image tower's own classifier (see `pacl.models.embedder`).
        conse_share: with start "conse", the classifier's share in the cosines, in [0, 1]; the trained embedder has the
            rest. At 1 nothing is trained.
        space: with start "conse", width of the trained space.
        hidden: width of the embedder's hidden layer; null: that of the embedding.
        temperature: of the softmax that pools patches; 1.0 is the formula as published, .inf mean pooling.
        learn_temperature: train the temperature, from the value above.
        cosine: whether phi re-normalises the pooled vector (else it is their inner product).
        text: "identity" keeps CLIP's text embedding, "linear" trains a linear layer on top of it.
        logit_scale: factor of phi in the loss, the inverse temperature of the softmax over texts; null: CLIP's own.
        contrast_margin: without effect on training: margin by which the cosine of a word that competes with a single
            prompt must exceed the prompt's to win a pixel.
        smoothing: without effect on training: temperature at which similar patches are averaged in segmentation, see
            `pacl.models.embedder.smooth`; 0 is off.
        prior: without effect on training: factor of a label's phi with the whole image, which is added to the label's
            cosines in segmentation, see `pacl.segmentation.settings.SegmenterSettings`.
        scales: without effect on training: factors of the size at which images are encoded in segmentation, see
            `pacl.segmentation.settings.SegmenterSettings`.
    """

    dense: str = "value"
    start: Start = "clip"
    conse_share: float = 0.6
    space: int = 256
    hidden: int | None = None
    temperature: float = 0.1
    learn_temperature: bool = False
    cosine: bool = True
    text: TextEmbedder = "identity"
    logit_scale: float | None = None
    contrast_margin: float = 0.0
    smoothing: float = 0.0
    prior: float = 0.0
    scales: list[float] = field(default_factory=lambda: [1.0])


@dataclass(kw_only=True)
class HeadConfig(HeadSettings):
    """A head's settings and the CLIP it belongs to: the ``config.json`` beside its weights.

    Attributes:
        backbone: the CLIP's name, as `pacl.models.backbone.load_backbone` takes it.
        checksum: SHA-256 of that CLIP's weights; a head for other weights is refused.
        quick_gelu: that CLIP's activation flag; a head for the other is refused.
        width: token width W.
        dim: embedding width D.
        hidden: width of the embedder's hidden layer.
        size: short side in pixels to which images are best resized: that of the training images.
        mean: per-channel mean that images are normalised with, in [0, 1].
        std: per-channel standard deviation.
        layers: indices of earlier layers of the image tower whose features are part of the tokens.
        logit_scale: of the start of training; the trained one is a parameter of the model.
        presence: score that a text's best patch has in images that show it, once the head is calibrated (see
            `pacl.segmentation.calibration`); 0 before.
        contrast: prompts that compete with a single prompt.
        vocabulary: nouns of the training's captions and names of classes, most frequent first; empty where the text
            tower cannot tell which prompts are far from them (see `pacl.models.vocabulary`).
        trained: False for the untrained start.
    """

    backbone: str
    checksum: str
    quick_gelu: bool
    width: int
    dim: int
    hidden: int
    size: int
    mean: list[float]
    std: list[float]
    layers: list[int] = field(default_factory=list)
    logit_scale: float
    contrast: list[str] = field(default_factory=list)
    presence: float = 0.0
    vocabulary: list[str] = field(default_factory=list)
    trained: bool = False

    @property
    def vector_width(self) -> int:
        """Width of patch and text vectors."""
        return self.dim + (self.space if self.start == "conse" and self.conse_share < 1 else 0)

    def to_json(self) -> str:
        """As JSON; an infinite temperature is written as a string, which JSON's numbers cannot say."""
        values = dataclasses.asdict(self)
        if math.isinf(self.temperature):
            values["temperature"] = "inf"
        return json.dumps({"format": HEAD_FORMAT, "version": 1, **values}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> HeadConfig:
        """Read `to_json`'s output; ``source`` names the file in errors."""
        try:
            values = json.loads(text)
            if values.pop("format") != HEAD_FORMAT:
                raise ValueError("not a pacl head")
            if (version := values.pop("version")) != 1:
                raise ValueError(f"version {version}, which is newer than this pacl")
            values["temperature"] = float(values["temperature"])
            for field_ in dataclasses.fields(cls):
                value = values.get(field_.name)
                if field_.name in values and not isinstance(value, JSON_TYPES[str(field_.type)]):
                    raise ValueError(f"{field_.name} is {value!r}")
                if field_.type == "int" and value is not None and value < 1:
                    raise ValueError(f"{field_.name} is {value}, not at least 1")
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{source} is not the configuration of a pacl head ({error})") from error


class PACL(nn.Module, PyTorchModelHubMixin, library_name="pacl", license="apache-2.0", tags=["clip", "segmentation"]):
    """A frozen CLIP, a patch embedder, and the cosines between what they say.

    Only the embedder, the two temperatures and (where asked for) the text layer have gradients; only they are saved.

    Attributes:
        clip: the frozen dual encoder.
        embedder: patch tokens [.., W] -> patch embeddings [.., D].
        text_embedder: identity, or a linear layer on CLIP's text embeddings.
        config: what this head is.
        centre: mean patch vector ``[D]`` over photos of many things, once the head is calibrated, else ``None``. Its
            product with a text is the cosine that the text has everywhere.
    """

    centre: Tensor | None

    def __init__(self, clip: Backbone, config: HeadConfig) -> None:
        super().__init__()
        clip.check_dense(config.dense)
        _check(config)
        self.clip = clip
        self.config = config
        self.embedder, self.text_embedder = _start(clip, config)
        self.log_temperature = nn.Parameter(
            torch.tensor(config.temperature).log(), requires_grad=config.learn_temperature
        )
        centre = torch.zeros(config.vector_width) if config.presence else None
        self.register_buffer("centre", centre)
        self.log_logit_scale = nn.Parameter(torch.tensor(min(config.logit_scale, MAX_LOGIT_SCALE)).log())

    @classmethod
    def untrained(cls, clip: Backbone, settings: HeadSettings | None = None, **changes: Any) -> PACL:
        """A head before training: with ``start="clip"``, CLIP's own projection of the dense variant's tokens.

        Args:
            clip: the frozen CLIP.
            settings: of the head.
            **changes: of single settings.
        """
        settings = dataclasses.replace(settings or HeadSettings(), **changes)
        chosen = {name: getattr(settings, name) for name in HeadSettings.__dataclass_fields__}
        chosen["hidden"] = clip.dim if settings.hidden is None else settings.hidden
        chosen["logit_scale"] = clip.logit_scale if settings.logit_scale is None else settings.logit_scale
        config = HeadConfig(
            backbone=clip.name,
            checksum=clip.checksum(),
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
        return cls(clip, config)

    # --- what a model says ---

    @property
    def device(self) -> torch.device:
        return self.log_logit_scale.device

    @property
    def temperature(self) -> Tensor:
        """Pooling temperature, a scalar tensor (with gradient if it is learned)."""
        return self.log_temperature.exp()

    @property
    def logit_scale(self) -> Tensor:
        """Inverse temperature of the softmax over texts; training keeps its parameter below that of 100."""
        return self.log_logit_scale.exp()

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Frozen patch tokens ``[B, P, W]`` -> unit patch embeddings v ``[B, P, D]``: the part that trains."""
        return F.normalize(self.embedder(tokens).float(), dim=-1)

    def encode_image(
        self, images: Tensor, stride: int | None = None, dense: str | None = None
    ) -> tuple[Tensor, PatchGrid]:
        """Normalised images ``[B, 3, H, W]`` of any size -> `patch_vectors` ``[B, P, D]`` and their grid."""
        tokens, grid = self.clip.patch_tokens(images, dense or self.config.dense, stride)
        return self.patch_vectors(tokens), grid

    def patch_vectors(self, tokens: Tensor) -> Tensor:
        """Frozen tokens of whole images ``[B, P, W]`` -> patch embeddings ``[B, P, D]`` as they are used.

        They are `embed_tokens`, of unit norm, unless this head smooths them.
        """
        v = self.embed_tokens(tokens)
        return smooth(v, tokens, self.config.smoothing) if self.config.smoothing else v

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts as they are -> unit embeddings ``[T, D]``; the frozen part is cached."""
        return F.normalize(self.text_embedder(self.clip.encode_text(texts)), dim=-1)

    def encode_prompts(self, prompts: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
        """Prompts in templates: the mean of the unit embeddings, normalised again, ``[N, D]``."""
        texts = [fill(template, prompt) for prompt in prompts for template in templates]
        embedded = rearrange(self.encode_text(texts), "(n k) d -> n k d", k=len(templates))
        return F.normalize(embedded.mean(dim=1), dim=-1)

    def similarity(self, images: Tensor, texts: Tensor, stride: int | None = None) -> tuple[Tensor, PatchGrid]:
        """Cosine of every patch with every text.

        Args:
            images: normalised ``[B, 3, H, W]``.
            texts: unit text embeddings ``[N, D]``.
            stride: pixels between patches; ``None`` is the patch size.

        Returns:
            ``[B, N, h, w]`` in [-1, 1] and the grid that places them.
        """
        patches, grid = self.encode_image(images, stride)
        return rearrange(patches @ texts.T, "b (h w) n -> b n h w", h=grid.h), grid

    def compatibility(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """phi of normalised images ``[B, 3, H, W]`` with every text: ``[B, T]``."""
        patches, _ = self.encode_image(images)
        return self.phi(patches, self.encode_text(texts))

    def phi(self, patches: Tensor, texts: Tensor) -> Tensor:
        """phi of patch embeddings ``[B, P, D]`` with text embeddings ``[T, D]``, pooled as this head does it."""
        temperature = self.temperature if self.config.learn_temperature else self.config.temperature
        return compatibility(patches, texts, temperature=temperature, cosine=self.config.cosine)

    # --- saved and loaded ---

    def head_state(self) -> dict[str, Tensor]:
        """The tensors that make this head: all but the frozen CLIP's."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("clip.")}

    def load_head_state(self, state: dict[str, Tensor], source: str) -> None:
        """Take over `head_state`'s tensors; `UserError` (naming ``source``) when they do not fit."""
        if self.centre is None:  # a calibration that was stopped between its two files
            state = {key: value for key, value in state.items() if key != "centre"}
        expected = {key: value.shape for key, value in self.head_state().items()}
        if expected != {key: value.shape for key, value in state.items()}:
            raise UserError(f"{source}: its tensors do not fit its configuration; the files are of different heads")
        # (the logarithm of mean pooling's temperature is infinite)
        if any(
            value.isnan().any() or (value.isinf().any() and key != "log_temperature") for key, value in state.items()
        ):
            raise UserError(f"{source}: holds values that are no finite numbers; the head is damaged, train it again")
        self.load_state_dict(state, strict=False)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        card: str | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> str | None:
        """Write ``config.json``, ``model.safetensors`` (the head only) and a model card to a folder.

        Each file is written whole or not at all.

        Args:
            save_directory: folder, made if needed.
            card: the model card's text (Markdown); ``None`` writes a short one.
            repo_id: hub repository to push to; the folder's name by default.
            push_to_hub: also push to the hub.
            **kwargs: passed to ``push_to_hub``.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(save_directory)
        state = {key: value.detach().cpu().contiguous() for key, value in self.head_state().items()}
        # The configuration last: where it lies, the other files are complete.
        for name, content in (
            (WEIGHTS, save(state)),
            (CARD, (card or write_card(self.config)).encode()),
            (CONFIG, self.config.to_json().encode()),
        ):
            with atomic_write(folder / name) as aside:
                aside.write_bytes(content)
        if push_to_hub:
            return self.push_to_hub(repo_id=repo_id or folder.name, **kwargs)
        return None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, clip: Backbone | None = None, **hub: Any
    ) -> PACL:
        """Load a saved head with the CLIP it belongs to.

        Args:
            pretrained_model_name_or_path: ``photos``, ``bundled``, a folder that `save_pretrained` wrote, or a hub
                repository.
            clip: use this CLIP instead of loading it by its name (it must be the same one).
            **hub: ``revision``, ``token``, ``cache_dir`` ... for the hub's client.

        Raises:
            UserError: nothing there, not a head, or a head for another CLIP or activation.
        """
        config_path, weights_path = _locate(str(pretrained_model_name_or_path), hub)
        try:
            text = config_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{config_path} cannot be read ({error}); save or download it again") from error
        config = HeadConfig.from_json(text, str(config_path))
        clip = clip or load_backbone(config.backbone, layers=config.layers)
        _check_backbone(clip, config, str(config_path))
        try:
            model = cls(clip, config)
        except ArgumentError as error:
            raise UserError(f"{config_path}: {error}") from error
        try:
            model.load_head_state(load_file(weights_path), str(weights_path))
        except (OSError, SafetensorError) as error:
            raise UserError(f"{weights_path} cannot be read ({error}); save or download it again") from error
        return model


def _check(config: HeadConfig) -> None:
    """Raise an `ArgumentError` for a setting out of range."""

    def check(name: str, valid: bool, reason: str) -> None:
        if not valid:
            raise ArgumentError(name, getattr(config, name), reason)

    check("start", config.start in STARTS, f"must be one of {', '.join(STARTS)}")
    check("text", config.text in get_args(TextEmbedder), "must be identity or linear")
    check("hidden", config.hidden >= 1, "must be at least 1")
    check("temperature", config.temperature > 0, "must be above 0 (1 as published, inf for mean pooling)")
    check("logit_scale", 0 < config.logit_scale < math.inf, "must be above 0 and finite, such as 14.3")
    fixed = not config.learn_temperature or math.isfinite(config.temperature)
    check("temperature", fixed, "mean pooling has no temperature to learn; start from 1 or less")
    check("conse_share", 0 <= config.conse_share <= 1, "must be between 0 and 1")
    for name in ("prior", "contrast_margin", "smoothing"):
        check(name, math.isfinite(getattr(config, name)), "must be finite")
    check("smoothing", config.smoothing >= 0, "must be a temperature such as 0.2, or 0 for none")
    scales = config.scales and all(isinstance(x, (int, float)) and 0 < x < math.inf for x in config.scales)
    check("scales", bool(scales), "must be one or more factors above 0, such as [1.0, 2.0]")
    check("presence", 0 <= config.presence < math.inf, "must be a score, or 0 before the calibration")


def shipped_folder(name: str) -> Path:
    """Folder of a head that travels with the package: ``photos`` or ``bundled``."""
    return bundled_folder().with_name(name)


def _locate(name: str, hub: dict[str, Any]) -> tuple[Path, Path]:
    """The configuration and weight files of a head."""
    folder = shipped_folder(name) if name in ("bundled", "photos") else Path(name).expanduser()
    if folder.is_dir() and not name.startswith("hf-hub:"):
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise UserError(f"{folder} holds no {file}: not the folder of a saved head")
        return folder / CONFIG, folder / WEIGHTS
    repository = name.removeprefix("hf-hub:")
    if repository.count("/") != 1:
        raise UserError(f"--model {name}: neither a folder nor a hub repository ORG/REPO")
    try:
        with fail_fast():
            return Path(hf_hub_download(repository, CONFIG, **hub)), Path(hf_hub_download(repository, WEIGHTS, **hub))
    except Exception as error:  # the hub's client raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--model {name}: {reason}; {OFFLINE_ADVICE}") from error


def _check_backbone(clip: Backbone, config: HeadConfig, source: str) -> None:
    if clip.quick_gelu != config.quick_gelu:
        raise UserError(
            f"{source}: this head was trained with quick_gelu={config.quick_gelu}, but {clip.name} has "
            f"quick_gelu={clip.quick_gelu}; use the CLIP it was trained on"
        )
    if (clip.width, clip.dim) != (config.width, config.dim) or clip.checksum() != config.checksum:
        raise UserError(
            f"{source}: this head was trained on other weights of {config.backbone} "
            f"(checksum {config.checksum[:12]}, got {clip.checksum()[:12]}); use those"
        )


def _start(clip: Backbone, config: HeadConfig) -> tuple[nn.Module, nn.Module]:
    """The embedders of patch tokens and of text embeddings, as they are before training."""
    text = _identity_linear(clip.dim) if config.text == "linear" else nn.Identity()
    if config.start == "paper":
        return PatchEmbedder.start_paper(config.width, config.dim, config.hidden), text
    if config.start == "conse":
        return _start_conse(clip, config)
    if clip.projection is None:
        other = "paper or conse" if clip.classifier else "paper"
        raise UserError(f"start clip: the image tower of {clip.name} has no linear projection; use start: {other}")
    return PatchEmbedder.start_clip(clip.projection, config.hidden), text


def _start_conse(clip: Backbone, config: HeadConfig) -> tuple[nn.Module, nn.Module]:
    if clip.classifier is None:
        raise UserError(
            f"start conse: the image tower of {clip.name} has no linear classifier of known classes; use start: paper"
        )
    conse = ConSE(clip.classifier, clip.encode_text(class_texts(clip.classifier)))
    if config.conse_share == 1:
        return conse, nn.Identity()
    embedder = PatchEmbedder.start_paper(config.width, config.space, config.hidden)
    text = nn.Linear(clip.dim, config.space)
    return SideBySide(conse, embedder, config.conse_share), SideBySide(nn.Identity(), text, config.conse_share)


def _identity_linear(dim: int) -> nn.Linear:
    layer = nn.Linear(dim, dim)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
