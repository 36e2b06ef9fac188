"""The head of a model: its settings, its configuration file, and where saved heads are found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from huggingface_hub import hf_hub_download

from pacl.errors import ArgumentError, UserError
from pacl.models.config import CONFIG, HEAD_FORMAT, SHIPPED, WEIGHTS, SavedConfig
from pacl.models.embedder import STARTS, Start
from pacl.models.towers.hub import fail_fast, first_line
from pacl.models.towers.open_clip_loading import OFFLINE_ADVICE, bundled_folder

TextEmbedder = Literal["identity", "linear"]


@dataclass(kw_only=True)
class HeadSettings:
    """Settings of a head, with the defaults of `PACL.untrained` and of training.

    Attributes:
        dense: dense variant of the last block that computes the patch tokens, see `pacl.models.towers.dense`. The
            paper's is clip.
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
class HeadConfig(HeadSettings, SavedConfig):
    """Settings of a head and a description of its backbone: the content of ``config.json``.

    Attributes:
        backbone: name of the backbone, for `pacl.models.backbone.load_backbone`.
        checksum: SHA-256 of the backbone's weights, which is compared when the head is loaded. Empty until the head is
            saved.
        quick_gelu: whether the backbone uses QuickGELU; compared when the head is loaded.
        width: token width W.
        dim: embedding width D.
        hidden: width of the embedder's hidden layer.
        size: short side in pixels to which images are resized by default: that of the training images.
        mean: per-channel mean that images are normalised with, in [0, 1].
        std: per-channel standard deviation.
        layers: indices of earlier layers of the image tower whose features are part of the tokens.
        temperature: where it is learned, as ``logit_scale``.
        logit_scale: at the start of training; the trained value is a parameter of the model, and this acts no more.
        presence: score that a text's best patch has in images that show it, once the head is calibrated (see
            `pacl.segmentation.calibration`); 0 before that.
        contrast: prompts that compete with a single prompt.
        vocabulary: nouns of the training captions and names of classes, most frequent first; empty if the text tower
            has no threshold for unfamiliar prompts (see `pacl.models.vocabulary`).
        trained: False for the untrained start.
    """

    FORMAT: ClassVar[str] = HEAD_FORMAT

    backbone: str
    checksum: str = ""
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
    def calibrated(self) -> bool:
        """Whether the head is, see `pacl.segmentation.calibration`: the background rule ``peak`` needs it."""
        return self.presence > 0

    @property
    def vector_width(self) -> int:
        """Width of patch and text vectors."""
        return self.dim + (self.space if self.start == "conse" and self.conse_share < 1 else 0)

    def check(self) -> None:
        """Raise an `ArgumentError` for a setting out of range."""

        def check(name: str, valid: bool, reason: str) -> None:
            if not valid:
                raise ArgumentError(name, getattr(self, name), reason)

        check("start", self.start in STARTS, f"must be one of {', '.join(STARTS)}")
        check("text", self.text in get_args(TextEmbedder), "must be identity or linear")
        check("hidden", self.hidden >= 1, "must be at least 1")
        check("temperature", self.temperature > 0, "must be above 0 (1 as published, inf for mean pooling)")
        check("logit_scale", 0 < self.logit_scale < math.inf, "must be above 0 and finite, such as 14.3")
        fixed = not self.learn_temperature or math.isfinite(self.temperature)
        check("temperature", fixed, "mean pooling has no temperature to learn; start from 1 or less")
        check("conse_share", 0 <= self.conse_share <= 1, "must be between 0 and 1")
        check("prior", abs(self.prior) <= 1, "must be from -1 to 1")
        for name in ("contrast_margin", "smoothing"):
            check(name, math.isfinite(getattr(self, name)), "must be finite")
        check("smoothing", self.smoothing >= 0, "must be a temperature such as 0.2, or 0 for none")
        scales = self.scales and all(isinstance(x, (int, float)) and 0 < x < math.inf for x in self.scales)
        check("scales", bool(scales), "must be one or more factors above 0, such as [1.0, 2.0]")
        check("presence", 0 <= self.presence < math.inf, "must be a score, or 0 before the calibration")


def shipped_folder(name: str) -> Path:
    """Folder of a head in `SHIPPED`."""
    return bundled_folder().with_name(name)


def find_head(name: str, **hub: Any) -> tuple[Path, Path]:
    """Configuration and weight file of a saved head.

    Args:
        name: a name in `SHIPPED`, a folder, or a hub repository ``[hf-hub:]ORG/REPO``.
        **hub: options of ``hf_hub_download``, such as ``revision``.

    Raises:
        UserError: no head is there, or the hub cannot be reached.
    """
    folder = shipped_folder(name) if name in SHIPPED else Path(name).expanduser()
    if folder.is_dir() and not name.startswith("hf-hub:"):
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise UserError(f"{folder} holds no {file}: not the folder of a saved head")
        return folder / CONFIG, folder / WEIGHTS
    repository = name.removeprefix("hf-hub:")
    if repository.count("/") != 1:
        raise ArgumentError("model", name, "neither a folder nor a hub repository ORG/REPO")
    try:
        with fail_fast():
            return Path(hf_hub_download(repository, CONFIG, **hub)), Path(hf_hub_download(repository, WEIGHTS, **hub))
    except Exception as error:  # the hub's client raises many kinds
        raise ArgumentError("model", name, f"{first_line(error)}; {OFFLINE_ADVICE}") from error
