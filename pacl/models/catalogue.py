"""The names of models that are known in advance; folders and hub repositories are not among them."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from pacl.models.config import SHIPPED
from pacl.models.towers.open_clip_loading import vit_names

Source = Literal["shipped", "open_clip"]


@dataclass(frozen=True)
class ModelName:
    """A model that `load_model` takes."""

    name: str
    """What `load_model` takes: ``photos``, ``open_clip:ViT-B-16/laion2b_s34b_b88k``."""
    source: Source
    """``shipped``: it is part of the package and needs no network. ``open_clip``: its weights are downloaded once."""
    trained: bool
    """Whether it has a head that was trained to segment; otherwise it starts with the training-free method."""

    def __str__(self) -> str:
        return self.name


def list_models(pattern: str = "*", *, pretrained: bool = True) -> list[ModelName]:
    """List the models that `load_model` takes by name: those of the package, then those of open_clip.

    Of open_clip's, these are the vision transformers with a linear projection, the ones that the training-free method
    can start from. Its other models need a trained head first and are not listed.

    Args:
        pattern: a shell pattern of the names, such as ``*ViT-B-16*``; upper and lower case count.
        pretrained: only models with pretrained weights; otherwise also ``open_clip:NAME/random`` for every
            architecture, random weights from a fixed seed.
    """
    shipped = [ModelName(name, "shipped", True) for name in SHIPPED]
    others = [ModelName(name, "open_clip", False) for name in vit_names(pretrained)]
    return [model for model in [*shipped, *others] if fnmatchcase(model.name, pattern)]
