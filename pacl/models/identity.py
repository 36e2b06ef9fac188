"""What the results of a model depend on: the one place that says when two models are the same.

Whatever keeps something that a model computed (an encoded image, an index, a probe, a record, a job that goes on later)
keeps one of these descriptions beside it, and compares it:

============= ==============================================================================
`tokens`      frozen patch tokens of a normalised image
`pooled`      CLIP's pooled embedding of an image as open_clip preprocesses it
`both_towers` all that the backbone computes without a head
`patches`     patch vectors of a normalised image
`texts`       text vectors
`objective`   what a training trains, and by which loss
`whole`       everything
============= ==============================================================================

They are dictionaries of JSON values. Weights are in them by checksum, and settings of the towers and fields of the
head's configuration by value. A new setting or field is part of them until one of the lists below leaves it out. Names
of models and precisions are no part.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from pacl.models.head import HeadConfig
from pacl.models.towers.base import ImageTower, TextTower

if TYPE_CHECKING:
    from pacl.models.backbone import Backbone
    from pacl.models.model import PACL

INERT = frozenset(
    (
        *("backbone", "trained", "vocabulary"),  # a name, a mark, and words for warnings
        *("checksum", "quick_gelu", "mean", "std", "layers"),  # copies of what the backbone has: that acts
        *("width", "dim", "hidden", "space"),  # shapes of weights
        *("logit_scale",),  # the start of a weight
    )
)
"""Fields of `HeadConfig` that no result depends on."""

NOT_ON_PATCHES = frozenset(
    (
        *("temperature", "learn_temperature", "cosine", "text"),  # phi and texts
        *("contrast", "contrast_margin", "presence", "prior"),  # decisions on the vectors
        *("size", "scales"),  # of images; whoever encodes them states what was used
    )
)
"""Fields of `HeadConfig` that patch vectors do not depend on, besides `INERT`."""

ON_TEXTS = frozenset(("text", "start", "conse_share"))
"""Fields of `HeadConfig` that text vectors depend on."""

NOT_TRAINED = frozenset(
    ("contrast", "contrast_margin", "presence", "prior", "scales", "smoothing", "trained", "vocabulary")
)
"""Fields of `HeadConfig` that have no effect on training."""

INERT_OF_TOWERS = frozenset(
    (
        *("width", "patch", "dim"),  # shapes of weights
        *("size", "fixed_stride", "variants", "classifier"),  # defaults, and what the tower is able to do
        *("preprocessing",),  # mean and std act on tokens, the rest on `pooled`
        *("vocabulary", "contrast", "familiar"),  # for warnings, and for the head's configuration
    )
)
"""Attributes of `ImageTower` and `TextTower` that tokens and text embeddings do not depend on."""


def tokens(clip: Backbone) -> dict[str, Any]:
    """What frozen tokens depend on, besides the dense variant."""
    return {"backbone": clip.image_checksum(), **tower_settings(clip.image)}


def pooled(clip: Backbone) -> dict[str, Any]:
    """What CLIP's pooled embedding of an image depends on."""
    return {**tokens(clip), "preprocessing": {key: str(value) for key, value in clip.preprocessing.items()}}


def both_towers(clip: Backbone) -> dict[str, Any]:
    """What anything depends on that a backbone computes without a head."""
    own = {"backbone": clip.checksum(), "clip_logit_scale": clip.logit_scale}
    return {**pooled(clip), **own, "texts": tower_settings(clip.text)}


def patches(model: PACL, *, smoothed: bool = True, quick: bool = False) -> dict[str, Any]:
    """What patch vectors depend on.

    Args:
        model: the model.
        smoothed: of `PACL.patch_vectors`; False: of `PACL.embed_tokens`.
        quick: take the backbone's `Backbone.fingerprint`, not its checksum; enough for what lives as long as a process.
    """
    clip, config = model.clip, model.config
    without = INERT | NOT_ON_PATCHES | (frozenset() if smoothed else {"smoothing"})
    # An untrained head of the start conse has text vectors, so that this is about both towers.
    of_texts = {"classes": tower_settings(clip.text)} if config.start == "conse" and not config.trained else {}
    return {
        "backbone": clip.fingerprint if quick else clip.checksum(),
        **tower_settings(clip.image),
        **of_texts,
        "head": model.part_checksum("embedder."),
        **_acting(config, without),
    }


def texts(model: PACL) -> dict[str, Any]:
    """What text vectors depend on, besides the templates."""
    return {
        "backbone": model.clip.fingerprint,
        **tower_settings(model.clip.text),
        "head": model.part_checksum("text_embedder."),
        **{name: getattr(model.config, name) for name in sorted(ON_TEXTS)},
    }


def objective(model: PACL) -> dict[str, Any]:
    """What a training trains, and by which loss: fields of `HeadConfig`, and what the towers make of their weights."""
    kept = [each.name for each in fields(HeadConfig) if each.name not in NOT_TRAINED]
    towers = [tower_settings(model.clip.image), tower_settings(model.clip.text)]
    return {**{name: getattr(model.config, name) for name in kept}, "towers": digest({"towers": towers})}


def whole(model: PACL, *, quick: bool = False) -> dict[str, Any]:
    """What any result of a model depends on; ``quick`` as for `patches`."""
    return {
        "backbone": model.clip.fingerprint if quick else model.clip.checksum(),
        "head": model.head_checksum(),
        **tower_settings(model.clip.image),
        "preprocessing": {key: str(value) for key, value in model.clip.preprocessing.items()},
        "texts": tower_settings(model.clip.text),
        "clip_logit_scale": model.clip.logit_scale,
        **_acting(model.config, INERT | ({"temperature"} if model.config.learn_temperature else set())),
    }


def tower_settings(tower: ImageTower | TextTower) -> dict[str, Any]:
    """What the tokens or embeddings of a tower depend on besides its weights, as JSON values."""
    preprocessing = getattr(tower, "preprocessing", None)  # of image towers
    kind = TextTower if preprocessing is None else ImageTower
    found = {name: _plain(getattr(tower, name)) for name in kind.__annotations__ if name not in INERT_OF_TOWERS}
    if preprocessing is not None:
        found |= {name: [float(value) for value in preprocessing[name]] for name in ("mean", "std")}
    proxy = getattr(tower, "proxy", None)  # (see `pacl.models.towers.proxy`)
    return found if proxy is None else {**found, "proxy": tower_settings(proxy)}


def digest(description: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that tell a description from others."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


def _acting(config: HeadConfig, without: frozenset[str]) -> dict[str, Any]:
    """Fields of a configuration, but for those at their defaults, so that a later field changes nothing."""
    found = {}
    for each in fields(config):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if each.name not in without and (value := _plain(getattr(config, each.name))) != default:
            found[each.name] = value
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it, which has no tuples and no infinity."""
    return list(value) if isinstance(value, tuple) else "inf" if value == math.inf else value
