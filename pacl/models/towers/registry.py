"""The registry of towers: names -> image towers and text towers.

Names of image towers, besides those of a CLIP (see `pacl.models.backbone`), whose image tower is used:

============================ ============================================================================
``timm:NAME[.TAG]``          a timm model with its pretrained weights
``timm:NAME/FILE``           a timm model with the weights of a local file
``timm:NAME/random``         a timm model with random weights from a fixed seed
============================ ============================================================================

Names of text towers, besides those of a CLIP:

============================ ============================================================================
``st:ORG/NAME``              a sentence-transformers model
``st:FOLDER``                the same from a local folder: ``st:/...``, ``st:./...``, ``st:~/...``
``static:words``             token vectors that are part of this package (see `pacl.models.towers.static_tower`)
``static:FOLDER``            token vectors in a local folder
============================ ============================================================================

After the name of a CLIP, ``,proxy=IMAGE`` names a second image tower for the dense variant ``proxyclip`` (see
`pacl.models.towers.proxy`): ``open_clip:ViT-B-16-quickgelu/openai,proxy=timm:vit_base_patch8_224.dino``.

To add a kind of tower, derive a class from `ImageTower` or `TextTower` of `pacl.models.towers.base`, write a function
that loads it by its name (an `ImageLoader` or a `TextLoader`), and register the function in `IMAGE_TOWERS` or
`TEXT_TOWERS` under the part of the name before the colon. Names, saved heads and caches of tokens then work as for the
others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pacl.errors import ArgumentError, UserError
from pacl.models.towers.base import ImageTower, TextTower
from pacl.models.towers.open_clip_loading import is_clip_name, load_clip
from pacl.models.towers.open_clip_towers import OpenClipText, image_tower
from pacl.models.towers.proxy import ProxyTower
from pacl.models.towers.sentence_tower import load_sentence_tower
from pacl.models.towers.static_tower import load_static_tower
from pacl.models.towers.timm_tower import load_timm

PROXY_MARK = ",proxy="  # between the names of a CLIP and of its proxy

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


# Part of a name before the colon -> loader. Loaders take the whole name, the activation (`quick_gelu`, see
# `pacl.models.backbone.load_backbone`) and, for image towers, the layers; they return the tower and its name, in which
# paths are absolute.
CLIPS = ("open_clip", "hf-hub", "local-dir", "bundled")
IMAGE_TOWERS: dict[str, ImageLoader] = {
    **dict.fromkeys(CLIPS, _clip_image),
    "timm": lambda name, _, layers: load_timm(name, layers),
}
TEXT_TOWERS: dict[str, TextLoader] = {
    **dict.fromkeys(CLIPS, _clip_text),
    "st": lambda name, _: load_sentence_tower(name),
    "static": lambda name, _: load_static_tower(name),
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


def load_clip_towers(
    name: str, *, quick_gelu: bool | None = None, layers: Sequence[int] = ()
) -> tuple[ImageTower, TextTower, str, float] | None:
    """Both towers of one CLIP, optionally with a proxy; its name with absolute paths, and its logit scale.

    Returns:
        ``None`` if ``name`` is not the name of a CLIP.
    """
    base, mark, proxy = name.partition(PROXY_MARK)
    if not is_clip_name(base):
        return None
    found = load_clip(base, quick_gelu)
    image: ImageTower = image_tower(found, layers)
    label = found.name
    if mark:
        image, label = _add_proxy(image, label, proxy)
    return image, OpenClipText(found), label, float(found.clip.logit_scale.detach().exp())


def _add_proxy(image: ImageTower, name: str, proxy: str) -> tuple[ImageTower, str]:
    """A CLIP's image tower combined with a proxy, and the name of both."""
    tower, proxy = load_image_tower(proxy)
    try:
        return ProxyTower(image, tower), f"{name}{PROXY_MARK}{proxy}"
    except UserError as error:
        raise ArgumentError("model", f"{name}{PROXY_MARK}{proxy}", str(error)) from None
