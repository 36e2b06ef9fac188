"""Evaluation of heads on drawn scenes: segmentation, classification, upper bounds and a supervised probe."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eval.common.comparison import train_head
from eval.scenes.probe import train_probe
from eval.scenes.sets import NAMES, OBJECTS, SceneSet, bound_majority, bound_shares, score_patches
from pacl.models.backbone import Backbone
from pacl.models.model import PACL
from pacl.models.towers.grid import PatchGrid
from pacl.scenes.data import SceneData

BOUNDS = {"upper bound: majority label": bound_majority, "upper bound: label shares": bound_shares}


class SceneEvaluator:
    """Trains and measures heads on the scenes of one frozen CLIP, whose tokens are computed once per dense variant.

    Args:
        clip: the frozen CLIP.
        sets: name -> scenes to segment.
        singles: name -> scenes with one object, to classify.
        settings: configuration of the trained heads, as in configs/scenes.yaml.
    """

    def __init__(
        self, clip: Backbone, sets: dict[str, SceneSet], singles: dict[str, SceneSet], settings: dict[str, Any]
    ) -> None:
        self.clip, self.sets, self.singles, self.settings = clip, sets, singles, settings
        self.data: dict[str, SceneData] = {}  # by dense variant, with the frozen tokens of its scenes
        self.tokens: dict[tuple[str, str, str], Tensor] = {}
        self.grid = PatchGrid(0, 0, 0, 0)  # known after the first images

    def tokens_of(self, kind: str, name: str, dense: str) -> Tensor:
        """Frozen tokens float16 [N, P, W] of one of the ``sets`` or ``singles``."""
        key = (kind, name, dense)
        if key not in self.tokens:
            self.tokens[key] = self.frozen((self.sets if kind == "sets" else self.singles)[name].images, dense)
        return self.tokens[key]

    @torch.inference_mode()
    def frozen(self, images: Tensor, dense: str) -> Tensor:
        """Frozen tokens float16 [N, P, W] of uint8 images [N, 3, H, W]."""
        parts = []
        for some in images.split(64):
            tokens, self.grid = self.clip.patch_tokens(self.clip.normalize(some), dense)
            parts.append(tokens.half())
        return torch.cat(parts)

    @torch.inference_mode()
    def measure(self, model: PACL) -> dict[str, float]:
        """Scores of a model in percent: mIoU "objects/own/seen" ..., top-1 accuracy of phi "top1/seen", "top1/new"."""
        model.eval()
        result: dict[str, float] = {}
        names = model.encode_text(NAMES)
        for name, scenes in self.sets.items():
            patches = self.embed(model, self.tokens_of("sets", name, model.config.dense))
            scores = score_patches(patches, names, scenes, self.grid)
            result |= {f"{key}/{name}": value for key, value in scores.items()}
        for name, scenes in self.singles.items():
            patches = self.embed(model, self.tokens_of("singles", name, model.config.dense))
            phi = torch.cat([model.phi(some, names[: len(OBJECTS)]) for some in patches.split(64)])
            result[f"top1/{name}"] = 100 * float((phi.argmax(1) == scenes.uppermost).float().mean())
        return result

    @staticmethod
    def embed(model: PACL, tokens: Tensor) -> Tensor:
        return torch.cat([model.embed_tokens(some.float()) for some in tokens.split(256)])

    @torch.inference_mode()
    def pooled_top1(self) -> dict[str, float]:
        """Zero-shot top-1 of CLIP's own pooled embedding, in percent."""
        names = self.clip.encode_text(NAMES[: len(OBJECTS)])
        result = {}
        for name, scenes in self.singles.items():
            pooled = torch.cat([self.clip.encode_image(self.clip.normalize(x)) for x in scenes.images.split(64)])
            result[f"top1/{name}"] = 100 * float(((pooled @ names.T).argmax(1) == scenes.uppermost).float().mean())
        return result

    def bounds(self) -> dict[str, dict[str, float]]:
        """Upper bounds of the patch grid, by name."""
        self.tokens_of("sets", next(iter(self.sets)), "clip")  # sets the grid
        result: dict[str, dict[str, float]] = {name: {} for name in BOUNDS}
        for row, bound in zip(result.values(), BOUNDS.values(), strict=True):
            for name, scenes in self.sets.items():
                row |= {f"{key}/{name}": value for key, value in bound(scenes, self.grid).items()}
        return result

    def probed(self, scenes: int, steps: int, dense: str = "value") -> dict[str, float]:
        """Scores of a classifier of patches that is trained on masks (`eval.scenes.probe`)."""
        train = SceneSet.draw("train", scenes, "seen", self.clip.size)
        tokens = self.frozen(train.images, dense)
        probe = train_probe(tokens, train, self.grid, steps)
        result: dict[str, float] = {}
        with torch.inference_mode():
            for name, test in self.sets.items():
                scores = probe(self.tokens_of("sets", name, dense).float()).softmax(dim=-1)  # [N, P, C]
                found = score_patches(scores, torch.eye(len(NAMES)), test, self.grid)
                result |= {f"{key}/{name}": value for key, value in found.items()}
        return result

    def trained(self, settings: dict[str, Any], seed: int) -> PACL:
        """A trained head; ``settings`` replace those of the configuration."""
        model, data = dict(self.settings["model"]), dict(self.settings["data"]["init_args"])
        steps = settings.get("max_steps", self.settings["trainer"]["max_steps"])
        for key, value in settings.items():
            if key != "max_steps":
                (data if key in data else model)[key] = value
        dense = model["dense"]
        if dense not in self.data:
            self.data[dense] = SceneData(**data)
        return train_head(self.clip, model, self.data[dense], {"max_steps": steps}, seed)
