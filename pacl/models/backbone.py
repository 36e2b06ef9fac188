"""The frozen dual encoder: pictures -> patch tokens, texts -> embeddings. The only file that loads CLIPs.

Models are named unmistakably:

============================ ============================================================================
``open_clip:NAME/TAG``       an open_clip architecture and a pretrained tag, a weight file, or ``random``
``hf-hub:ORG/REPO``          a hub repository with ``open_clip_config.json``
``local-dir:PATH``           a folder with ``open_clip_config.json`` and weights
``bundled``                  the small CLIP that travels with this package
============================ ============================================================================
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pacl.errors import UserError
from pacl.models.grid import PatchGrid
from pacl.models.hub import fail_fast
from pacl.models.text_cache import TextCache
from pacl.models.tokenizer import CompactTokenizer
from pacl.models.towers import FeatureTower, ViTTower

TEXT_BATCH = 64  # texts that pass the text tower at once; a GPU takes more
TEXT_STEP = 8  # tokens; lengths of texts are rounded up to it
OPENAI_B16 = "open_clip:ViT-B-16-quickgelu/openai"
OFFLINE_ADVICE = (
    "connect once so that it is cached, give a folder with open_clip_config.json and weights as local-dir:PATH, "
    "or use --model bundled"
)


def bundled_folder() -> Path:
    """Folder of the bundled head (``clip/`` in it holds the bundled CLIP)."""
    return Path(str(resources.files("pacl"))) / "bundled"


class Backbone(nn.Module):
    """A CLIP whose weights never change: no gradients, always in eval mode.

    Attributes:
        name: the model's name as `load_backbone` takes it.
        width: token width W of the image tower.
        dim: embedding width D.
        patch: patch side in pixels.
        size: side in pixels of the square images it was trained on.
        mean: per-channel mean that images are normalised with, in [0, 1].
        std: per-channel standard deviation, likewise.
        logit_scale: CLIP's own inverse temperature, already exponentiated.
        quick_gelu: whether the towers use QuickGELU.
        dense_variants: the dense variants this tower can do.
        context_length: tokens a text may have, start and end included.
        vocabulary: the words a small CLIP was trained on; ``None`` means any.
        contrast: prompts that compete with a single prompt; ``None`` means it names none.
    """

    clip: Any

    def __init__(
        self,
        clip: Any,
        tokenizer: Any,
        name: str,
        quick_gelu: bool,
        vocabulary: Sequence[str] | None = None,
        contrast: Sequence[str] | None = None,
    ) -> None:
        import open_clip

        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.quick_gelu = quick_gelu
        self.vocabulary = None if vocabulary is None else frozenset(vocabulary)
        self.contrast = None if contrast is None else tuple(contrast)
        visual = clip.visual
        self.tower: ViTTower | FeatureTower = _tower(visual, name)
        preprocess = visual.preprocess_cfg
        self.mean: tuple[float, ...] = tuple(preprocess["mean"])
        self.std: tuple[float, ...] = tuple(preprocess["std"])
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise UserError(f"--model {name}: mean {self.mean} and std {self.std} are not those of three channels")
        side = visual.image_size
        self.size = int(side[0] if isinstance(side, (tuple, list)) else side)
        self.patch = self.tower.patch
        self.width = self.tower.width
        self.dense_variants = self.tower.variants
        self.logit_scale = float(clip.logit_scale.detach().exp())
        self.context_length = int(tokenizer.context_length)
        # What comes after a text's end changes nothing: causal towers need not look at it.
        causal = isinstance(clip, open_clip.CLIP) and clip.attn_mask is not None
        self._causal = causal and clip.text_pool_type == "argmax"
        self._texts = TextCache(self._encode, kind=self._tokens_read if self._causal else None)
        self.dim = self._encode(["a"]).shape[1]
        self._checksum: str | None = None

    @property
    def projection(self) -> Tensor | None:
        """CLIP's visual projection ``[W, D]``; ``None`` for towers without a linear one."""
        return self.tower.projection

    @property
    def device(self) -> torch.device:
        return next(self.clip.parameters()).device

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode, whatever the module around it does."""
        return super().train(False)

    def normalize(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]``, uint8 or float in [0, 1] -> what the image tower takes, float32."""
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return (images - mean) / std

    def patch_tokens(self, images: Tensor, dense: str = "clip", stride: int | None = None) -> tuple[Tensor, PatchGrid]:
        """Patch tokens after ``ln_post``, before any projection.

        Args:
            images: normalised ``[B, 3, H, W]``, any H and W.
            dense: variant of the last block, see `pacl.models.dense`.
            stride: pixels between patches; ``None`` is the patch size. Smaller strides overlap (the stride trick).

        Returns:
            Tokens ``[B, P, W]`` and their `PatchGrid`.

        Raises:
            UserError: the tower cannot do that variant or stride.
        """
        (tokens,), grid = self.patch_tokens_of(images, [dense], stride)
        return tokens, grid

    @torch.no_grad()
    def patch_tokens_of(
        self, images: Tensor, dense: Sequence[str], stride: int | None = None
    ) -> tuple[list[Tensor], PatchGrid]:
        """`patch_tokens` in several dense variants, in their order; what they have in common is computed once."""
        for variant in dense:
            self.check_dense(variant)
        if stride is not None and not 1 <= stride <= self.patch:
            raise UserError(f"--stride {stride}: the patch stride is between 1 and the patch size {self.patch}")
        return self.tower(images, dense, stride)

    def check_dense(self, dense: str) -> None:
        """Raise a `UserError` unless the image tower can do this dense variant."""
        if dense not in self.dense_variants:
            able = ", ".join(self.dense_variants)
            raise UserError(f"dense variant {dense}: the image tower of {self.name} can do {able}")

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """CLIP's own pooled embedding of normalised square images at the native size: ``[B, D]``, unit norm."""
        return F.normalize(self.clip.encode_image(images), dim=-1)

    @torch.no_grad()
    def encode_image_and_tokens(self, images: Tensor, dense: str) -> tuple[Tensor, Tensor]:
        """`encode_image` ``[B, D]`` and `patch_tokens` ``[B, P, W]`` of square images of the native size, in one."""
        self.check_dense(dense)
        if not isinstance(self.tower, ViTTower):
            return self.encode_image(images), self.patch_tokens(images, dense)[0]
        caught: list[Tensor] = []
        last = self.clip.visual.transformer.resblocks[-1]
        hook = last.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            pooled = self.encode_image(images)
        finally:
            hook.remove()
        grid = PatchGrid.cover(images.shape[-2], images.shape[-1], self.patch, self.patch)
        return pooled, self.tower.finish(caught[0], grid, [dense])[0]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts, as they are (no templates) -> ``[T, D]``, unit norm; any number, each text computed once."""
        if isinstance(texts, str):
            raise TypeError("texts is a sequence of strings, not one string")
        if not texts:
            return torch.empty(0, self.dim, device=self.device)
        self._texts.batch = TEXT_BATCH if self.device.type == "cpu" else 8 * TEXT_BATCH
        return self._texts(texts).to(self.device)

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> Tensor:
        # In full precision whoever asks: what is kept must not depend on who asked first.
        with torch.autocast(self.device.type, enabled=False):
            tokens = self.tokenizer(texts).to(self.device)
            encoded = self._encode_causal(tokens) if self._causal else self.clip.encode_text(tokens)
        return F.normalize(encoded.float(), dim=-1)

    def _encode_causal(self, tokens: Tensor) -> Tensor:
        """open_clip's ``encode_text`` of tokens ``[T, L]``, without most of the padding: [T, D]."""
        clip = self.clip
        end = tokens.argmax(dim=-1)  # the end of a text has the highest id
        length = self._rounded(int(end.max()) + 1)
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]  # [T, length, text width]
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        x = clip.ln_final(x[torch.arange(len(x), device=x.device), end])
        projection = clip.text_projection
        return projection(x) if callable(projection) else x if projection is None else x @ projection

    def _tokens_read(self, text: str) -> int:
        return self._rounded(self.count_tokens(text))

    def _rounded(self, tokens: int) -> int:
        """So many tokens, or a few more, go through the text tower: texts of one such length go together."""
        return min(self.context_length, -(-tokens // TEXT_STEP) * TEXT_STEP)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end included; more than ``context_length`` would be cut."""
        if hasattr(self.tokenizer, "encode"):
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(text)["input_ids"])

    def checksum(self) -> str:
        """`weights_checksum` of all weights: tells one set of weights from another."""
        if self._checksum is None:
            self._checksum = weights_checksum(self.clip.state_dict())
        return self._checksum


def weights_checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of tensors."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def load_backbone(name: str, *, quick_gelu: bool | None = None) -> Backbone:
    """Load a frozen CLIP by its name (see the module's docstring).

    Args:
        name: ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO``, ``local-dir:PATH`` or ``bundled``.
        quick_gelu: force the activation; ``None`` takes what the tag was trained with, else what the config says.

    Raises:
        UserError: unknown name or tag, weights that are neither cached nor reachable, an unreadable folder.
    """
    scheme, _, rest = name.partition(":")
    if name == "bundled":
        return _load_folder(bundled_folder() / "clip", name, quick_gelu)
    if scheme == "local-dir" and rest:
        folder = Path(rest).expanduser().resolve()  # a head that names it must work from elsewhere too
        return _load_folder(folder, f"local-dir:{folder}", quick_gelu)
    if scheme == "hf-hub" and rest.count("/") == 1:
        return _load_hub(name, quick_gelu)
    if scheme == "open_clip" and "/" in rest:
        architecture, _, tag = rest.partition("/")
        return _load_builtin(name, architecture, tag, quick_gelu)
    raise UserError(
        f"--model {name}: not a model name; use auto, bundled, open_clip:NAME/TAG, hf-hub:ORG/REPO, local-dir:PATH "
        "or the path of a saved head"
    )


def _load_folder(folder: Path, name: str, quick_gelu: bool | None) -> Backbone:
    config = folder / "open_clip_config.json"
    if not config.is_file():
        raise UserError(f"--model {name}: {folder} holds no open_clip_config.json")
    try:
        extra = json.loads(config.read_text(encoding="utf-8"))
        flag = bool(extra["model_cfg"].get("quick_gelu", False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--model {name}: {config} is not an open_clip configuration ({error})") from error
    return _load_described(name, f"local-dir:{folder}", extra, flag if quick_gelu is None else quick_gelu)


def _load_hub(name: str, quick_gelu: bool | None) -> Backbone:
    import open_clip

    try:
        with fail_fast():
            extra = open_clip.factory._get_hf_config(name.partition(":")[2])
        flag = bool(extra["model_cfg"].get("quick_gelu", False))
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(
            f"--model {name}: {_first_line(error)}; check the name, or, without network, {OFFLINE_ADVICE}"
        ) from error
    return _load_described(name, name, extra, flag if quick_gelu is None else quick_gelu)


def _load_described(name: str, model: str, extra: dict[str, Any], quick_gelu: bool) -> Backbone:
    """A model with an ``open_clip_config.json``, whose further keys are ours: see `pacl.pretrain`."""
    words = [extra.get(key) for key in ("vocabulary", "contrast")]
    if not all(
        some is None or (isinstance(some, list) and all(isinstance(word, str) for word in some)) for some in words
    ):
        raise UserError(f"--model {name}: vocabulary and contrast of its configuration are lists of words")
    clip = _create(name, model, quick_gelu=quick_gelu)
    tokenizer = _tokenizer(name, model)
    if extra.get("token_ids"):  # a text tower with only the token rows that it was trained on
        try:
            tokenizer = CompactTokenizer(extra["token_ids"], tokenizer.context_length)
        except (ValueError, TypeError) as error:
            raise UserError(f"--model {name}: token_ids of its configuration are not usable ({error})") from error
    return Backbone(clip, tokenizer, name, quick_gelu, extra.get("vocabulary"), extra.get("contrast"))


def _load_builtin(name: str, architecture: str, tag: str, quick_gelu: bool | None) -> Backbone:
    import open_clip

    config = open_clip.get_model_config(architecture)
    if config is None:
        raise UserError(f"--model {name}: open_clip has no architecture {architecture!r}; see open_clip.list_models()")
    flag = bool(config.get("quick_gelu", False))
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag in known:
        # Since open_clip 2.29 a QuickGELU tag on a plain architecture only warns, and loads the wrong activation.
        flag = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", flag))
    elif tag != "random" and not Path(tag).is_file():
        raise UserError(
            f"--model {name}: {tag!r} is neither a weight file nor a tag of {architecture} "
            f"(tags: {', '.join(known) or 'none'}; or: random)"
        )
    flag = flag if quick_gelu is None else quick_gelu
    if tag == "random":
        with torch.random.fork_rng(devices=[]):  # the same random weights each time
            torch.manual_seed(0)
            clip = _create(name, architecture, load_weights=False, quick_gelu=flag)
    else:
        clip = _create(name, architecture, pretrained=tag, quick_gelu=flag)
    return Backbone(clip, _tokenizer(name, architecture), name, flag)


def _create(
    name: str, model: str, *, pretrained: str | None = None, load_weights: bool = True, quick_gelu: bool
) -> Any:
    """open_clip's factory, quiet, with its failures in one line."""
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
    except Exception as error:  # network, missing files, broken checkpoints: many kinds, one meaning for the user
        raise UserError(f"--model {name}: {_first_line(error)}; {OFFLINE_ADVICE}") from error
    finally:
        logger.setLevel(level)


def _tokenizer(name: str, model: str) -> Any:
    import open_clip

    try:
        with fail_fast(local=model.startswith("local-dir:")):
            return open_clip.get_tokenizer(model)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--model {name}: its tokenizer needs {error.name}; pip install 'pacl[{error.name}]'"
        ) from error
    except Exception as error:
        raise UserError(
            f"--model {name}: its tokenizer cannot be loaded ({_first_line(error)}); {OFFLINE_ADVICE}"
        ) from error


def _tower(visual: Any, name: str) -> ViTTower | FeatureTower:
    if hasattr(visual, "transformer") and hasattr(visual, "positional_embedding"):
        if visual.attn_pool is not None:
            raise UserError(f"--model {name}: image towers with attentional pooling (CoCa) have no patch projection")
        return ViTTower(visual)
    if hasattr(visual, "forward_intermediates"):
        return FeatureTower(visual)
    raise UserError(f"--model {name}: its image tower {type(visual).__name__} gives no patch features")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
