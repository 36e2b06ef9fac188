"""How models of open_clip are found and loaded: by tag, file, folder or hub repository."""

from __future__ import annotations

import difflib
import logging
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from pacl.errors import ArgumentError, ask_meant
from pacl.files import parse_json
from pacl.models.towers.base import local_path
from pacl.models.towers.hub import fail_fast, first_line
from pacl.models.towers.tokenizer import CompactTokenizer

OFFLINE_ADVICE = (
    "connect once so that it is cached, give a folder with open_clip_config.json and weights as local-dir:PATH, "
    "or use the model photos"
)

MOST_LAYERS = 1000
"""Of a tower; a damaged configuration with more would fill the memory with layers."""


def bundled_folder() -> Path:
    """Folder of the bundled head (``clip/`` in it holds the bundled CLIP)."""
    return Path(str(resources.files("pacl"))) / "bundled"


@dataclass
class LoadedClip:
    """An open_clip model and the settings in its configuration.

    Attributes:
        name: its name; that of a folder has the folder's absolute path.
        clip: the model.
        tokenizer: its tokenizer.
        quick_gelu: whether its activation is QuickGELU.
        settings: open_clip's configuration of the model, without ``quick_gelu``; with ``token_ids``, where it has them.
        vocabulary: the words that it was trained on; ``None`` means any.
        contrast: prompts that compete with a single prompt; ``None`` means that there are no such prompts.
    """

    name: str
    clip: Any
    tokenizer: Any
    quick_gelu: bool
    settings: dict[str, Any]
    vocabulary: list[str] | None = None
    contrast: list[str] | None = None

    def acting_settings(self, *names: str) -> dict[str, Any]:
        """Some of the settings, without what they have as open_clip's defaults: a setting that it adds changes nothing.

        Zero, False and None count where the default is something else.
        """
        from open_clip.model import CLIPTextCfg, CLIPVisionCfg

        found: dict[str, Any] = {name: self.settings.get(name) for name in names}
        found = {name: value for name, value in found.items() if value is not None and value is not False}
        for name, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
            if name in found:
                defaults = vars(kind())
                found[name] = {
                    key: value
                    for key, value in found[name].items()
                    if value != defaults.get(key) and not (value == {} and defaults.get(key) is None)
                }
        return found


def is_clip_name(name: str) -> bool:
    """Whether a name is of a form that `load_clip` takes."""
    scheme, _, rest = name.partition(":")
    forms = {"local-dir": bool(rest), "hf-hub": rest.count("/") == 1, "open_clip": "/" in rest}
    return name == "bundled" or forms.get(scheme, False)


def load_clip(name: str, quick_gelu: bool | None = None) -> LoadedClip:
    """Load a model of open_clip by a name of its own (see `pacl.models.backbone`).

    Args:
        name: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO``, ``local-dir:PATH`` or ``bundled``.
        quick_gelu: whether to use QuickGELU; ``None`` means as the tag was trained, else as the configuration says.

    Raises:
        ArgumentError: unknown tag, weights that are neither cached nor reachable, an unreadable folder.
    """
    scheme, _, rest = name.partition(":")
    if name == "bundled":
        return _load_folder(bundled_folder() / "clip", name, quick_gelu)
    if scheme == "local-dir":
        folder = local_path(rest, name).resolve()  # a head that names it must work from elsewhere too
        return _load_folder(folder, f"local-dir:{folder}", quick_gelu)
    if scheme == "hf-hub":
        return _load_hub(name, quick_gelu)
    architecture, _, tag = rest.partition("/")
    return _load_builtin(name, architecture, tag, quick_gelu)


def _load_folder(folder: Path, name: str, quick_gelu: bool | None) -> LoadedClip:
    config = folder / "open_clip_config.json"
    if not config.is_file():
        what = (
            "holds no model: no config.json of a head (no training has finished there), no open_clip_config.json of a "
            "CLIP"
        )
        raise ArgumentError("model", name, f"{folder} {what if folder.is_dir() else 'does not exist: no such folder'}")
    try:
        extra = parse_json(config.read_text(encoding="utf-8"))
        flag = bool(extra["model_cfg"].get("quick_gelu", False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError("model", name, f"{config} is not an open_clip configuration ({error})") from error
    return _load_described(name, f"local-dir:{folder}", extra, flag if quick_gelu is None else quick_gelu)


def _load_hub(name: str, quick_gelu: bool | None) -> LoadedClip:
    import open_clip

    try:
        with fail_fast():
            extra = open_clip.factory._get_hf_config(name.partition(":")[2])
        flag = bool(extra["model_cfg"].get("quick_gelu", False))
    except Exception as error:  # the hub's client raises many types
        raise ArgumentError(
            "model", name, f"{first_line(error)}; check the name, or, without network, {OFFLINE_ADVICE}"
        ) from error
    return _load_described(name, name, extra, flag if quick_gelu is None else quick_gelu)


def _load_described(name: str, model: str, extra: dict[str, Any], quick_gelu: bool) -> LoadedClip:
    """A model with an ``open_clip_config.json``, which may have further keys that `pacl.pretrain` writes."""
    words = [extra.get(key) for key in ("vocabulary", "contrast")]
    if not all(
        some is None or (isinstance(some, list) and all(isinstance(word, str) for word in some)) for some in words
    ):
        raise ArgumentError("model", name, "vocabulary and contrast in its configuration must be lists of strings")
    for tower in ("vision_cfg", "text_cfg"):
        own = extra["model_cfg"].get(tower)
        layers = own.get("layers") if isinstance(own, dict) else None
        if any(isinstance(n, int) and n > MOST_LAYERS for n in (layers if isinstance(layers, list) else [layers])):
            raise ArgumentError("model", name, f"its configuration has more than {MOST_LAYERS:,} layers in {tower}")
    clip = _create(name, model, quick_gelu=quick_gelu)
    tokenizer = _tokenizer(name, model)
    if extra.get("token_ids"):  # a text tower that kept only the token embeddings it was trained on
        try:
            tokenizer = CompactTokenizer(extra["token_ids"], tokenizer.context_length)
        except (ValueError, TypeError) as error:
            raise ArgumentError("model", name, f"token_ids in its configuration are invalid ({error})") from error
    settings = _without_activation({**extra["model_cfg"], "token_ids": extra.get("token_ids")})
    return LoadedClip(name, clip, tokenizer, quick_gelu, settings, extra.get("vocabulary"), extra.get("contrast"))


def _load_builtin(name: str, architecture: str, tag: str, quick_gelu: bool | None) -> LoadedClip:
    import open_clip

    config = open_clip.get_model_config(architecture)
    if config is None:
        known = {each.lower(): each for each in open_clip.list_models()}
        close = difflib.get_close_matches(architecture.lower(), known)
        hint = ask_meant(known[each] for each in close) or "pacl.list_models() lists all"
        raise ArgumentError("model", name, f"open_clip has no architecture {architecture!r}; {hint}")
    flag = bool(config.get("quick_gelu", False))
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag in known:
        # Since open_clip 2.29 a QuickGELU tag on a plain architecture only warns, and loads the wrong activation.
        flag = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", flag))
    elif tag != "random" and not local_path(tag, name).is_file():
        raise ArgumentError(
            "model",
            name,
            f"{tag!r} is neither a weight file nor a tag of {architecture} "
            f"(tags: {', '.join(known) or 'none'}; or: random)",
        )
    flag = flag if quick_gelu is None else quick_gelu
    if tag == "random":
        with torch.random.fork_rng(devices=[]):  # the same random weights each time
            torch.manual_seed(0)
            clip = _create(name, architecture, load_weights=False, quick_gelu=flag)
    else:
        clip = _create(name, architecture, pretrained=tag, quick_gelu=flag)
    return LoadedClip(name, clip, _tokenizer(name, architecture), flag, _without_activation(config))


def _without_activation(settings: dict[str, Any]) -> dict[str, Any]:
    """A configuration of open_clip without its ``quick_gelu``, which tags replace."""
    return {key: value for key, value in settings.items() if key != "quick_gelu"}


def pretrained_names(architecture: str) -> list[str]:
    """The names of an architecture's pretrained weights, ``open_clip:NAME/TAG``; none for an unknown one."""
    import open_clip

    return [f"open_clip:{architecture}/{tag}" for tag in open_clip.list_pretrained_tags_by_model(architecture)]


def vit_names(pretrained: bool = True) -> list[str]:
    """The names of open_clip's own vision transformers with a linear projection.

    Args:
        pretrained: only those with pretrained weights; otherwise also ``open_clip:NAME/random`` of every architecture.
    """
    import open_clip

    names = []
    for architecture in open_clip.list_models():
        vision = open_clip.get_model_config(architecture)["vision_cfg"]
        coca = vision.get("attentional_pool") or vision.get("output_tokens")
        resnet = isinstance(vision.get("layers"), list)
        if not (coca or resnet or vision.get("timm_model_name")):
            names += pretrained_names(architecture) + [f"open_clip:{architecture}/random"] * (not pretrained)
    return names


def _create(
    name: str, model: str, *, pretrained: str | None = None, load_weights: bool = True, quick_gelu: bool
) -> Any:
    """open_clip's factory without log messages; it raises an `ArgumentError` of one line."""
    import open_clip

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # open_clip logs expected failures as errors on the root logger
    try:
        with warnings.catch_warnings(), fail_fast(local=not load_weights or model.startswith("local-dir:")):
            warnings.simplefilter("ignore")
            return open_clip.create_model(
                model,
                pretrained=pretrained,
                load_weights=load_weights,
                require_pretrained=load_weights,
                pretrained_text=False,
                quick_gelu=quick_gelu,
            )
    except Exception as error:  # network, missing files, damaged checkpoints: the libraries raise many types
        raise ArgumentError("model", name, f"{first_line(error)}; {OFFLINE_ADVICE}") from error
    finally:
        logger.setLevel(level)


def _tokenizer(name: str, model: str) -> Any:
    import open_clip

    try:
        with fail_fast(local=model.startswith("local-dir:")):
            return open_clip.get_tokenizer(model)
    except ModuleNotFoundError as error:
        raise ArgumentError(
            "model", name, f'its tokenizer needs {error.name}; pip install "pacl[{error.name}]"'
        ) from error
    except Exception as error:
        raise ArgumentError(
            "model", name, f"its tokenizer cannot be loaded ({first_line(error)}); {OFFLINE_ADVICE}"
        ) from error
