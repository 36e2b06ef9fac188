"""Evaluation of heads on procedural scenes: segmentation, classification, upper bounds and a supervised classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eval.common.head_training import train_head
from eval.scenes.patch_classifier import train_patch_classifier
from eval.scenes.sets import NAMES, OBJECTS, SceneSet, bound_majority, bound_shares, score_patches
from pacl.models.backbone import Backbone
from pacl.models.model import PACL
from pacl.models.towers.grid import PatchGrid
from pacl.scenes.data import SceneData

BOUNDS = {"upper bound: majority label": bound_majority, "upper bound: label shares": bound_shares}


class SceneEvaluator:
    """Trains heads on one frozen CLIP and evaluates them. Frozen tokens are computed once per dense variant.

    Args:
        clip: the frozen CLIP.
        sets: name -> test scenes to segment.
        singles: name -> test scenes with a single object, to classify.
        settings: training configuration with the keys of configs/scenes.yaml.
    """

    def __init__(
        self, clip: Backbone, sets: dict[str, SceneSet], singles: dict[str, SceneSet], settings: dict[str, Any]
    ) -> None:
        self.clip, self.sets, self.singles, self.settings = clip, sets, singles, settings
        self.data: dict[str, SceneData] = {}  # dense variant -> training data, with its cached frozen tokens
        self.tokens: dict[tuple[str, str, str], Tensor] = {}
        self.grid = PatchGrid(0, 0, 0, 0)  # set by `encode`

    def tokens_of(self, kind: str, name: str, dense: str) -> Tensor:
        """Frozen tokens of a test set, computed once.

        Args:
            kind: ``sets`` or ``singles``.
            name: the test set.
            dense: dense variant.

        Returns:
            float16 [N, P, W].
        """
        key = (kind, name, dense)
        if key not in self.tokens:
            self.tokens[key] = self.encode((self.sets if kind == "sets" else self.singles)[name].images, dense)
        return self.tokens[key]

    @torch.inference_mode()
    def encode(self, images: Tensor, dense: str) -> Tensor:
        """Images, uint8 [N, 3, H, W] -> frozen tokens, float16 [N, P, W]. Also sets ``grid``."""
        parts = []
        for batch in images.split(64):
            tokens, self.grid = self.clip.patch_tokens(self.clip.normalize(batch), dense)
            parts.append(tokens.half())
        return torch.cat(parts)

    @torch.inference_mode()
    def measure(self, model: PACL) -> dict[str, float]:
        """Evaluate a model on all test sets.

        Returns:
            Scores in percent: mIoU by ``KIND/CLASSES/SET``, such as ``objects/own/seen``, and top-1 accuracy of
            classifying single objects by phi, ``top1/SET``.
        """
        model.eval()
        result: dict[str, float] = {}
        names = model.encode_text(NAMES)
        for name, scenes in self.sets.items():
            patches = self.embed(model, self.tokens_of("sets", name, model.config.dense))
            scores = score_patches(patches, names, scenes, self.grid)
            result |= {f"{key}/{name}": value for key, value in scores.items()}
        for name, scenes in self.singles.items():
            patches = self.embed(model, self.tokens_of("singles", name, model.config.dense))
            phi = torch.cat([model.phi(batch, names[: len(OBJECTS)]) for batch in patches.split(64)])
            result[f"top1/{name}"] = 100 * float((phi.argmax(1) == scenes.uppermost).float().mean())
        return result

    @staticmethod
    def embed(model: PACL, tokens: Tensor) -> Tensor:
        """Frozen tokens [N, P, W] -> patch vectors, float32 [N, P, D], as a `Segmenter` compares them."""
        return torch.cat([model.patch_vectors(batch.float()) for batch in tokens.split(256)])

    @torch.inference_mode()
    def pooled_top1(self) -> dict[str, float]:
        """Top-1 accuracy of CLIP's pooled embedding on scenes with one object, in percent, by ``top1/SET``."""
        names = self.clip.encode_text(NAMES[: len(OBJECTS)])
        result = {}
        for name, scenes in self.singles.items():
            pooled = torch.cat([self.clip.encode_image(self.clip.normalize(x)) for x in scenes.images.split(64)])
            result[f"top1/{name}"] = 100 * float(((pooled @ names.T).argmax(1) == scenes.uppermost).float().mean())
        return result

    def upper_bounds(self) -> dict[str, dict[str, float]]:
        """Name in `BOUNDS` -> upper bounds of mIoU on this patch grid, in percent, with the keys of `measure`."""
        self.tokens_of("sets", next(iter(self.sets)), "clip")  # sets the grid
        result: dict[str, dict[str, float]] = {name: {} for name in BOUNDS}
        for scores, bound in zip(result.values(), BOUNDS.values(), strict=True):
            for name, scenes in self.sets.items():
                scores |= {f"{key}/{name}": value for key, value in bound(scenes, self.grid).items()}
        return result

    def supervised(self, scenes: int, steps: int, dense: str = "value") -> dict[str, float]:
        """Train a patch classifier on masks and evaluate it (see `eval.scenes.patch_classifier`).

        Args:
            scenes: number of training scenes.
            steps: training steps.
            dense: dense variant of the tokens.

        Returns:
            mIoU in percent, with the keys of `measure`.
        """
        train = SceneSet.render("train", scenes, "seen", self.clip.size)
        tokens = self.encode(train.images, dense)
        classifier = train_patch_classifier(tokens, train, self.grid, steps)
        result: dict[str, float] = {}
        with torch.inference_mode():
            for name, test in self.sets.items():
                scores = classifier(self.tokens_of("sets", name, dense).float()).softmax(dim=-1)  # [N, P, C]
                found = score_patches(scores, torch.eye(len(NAMES)), test, self.grid)
                result |= {f"{key}/{name}": value for key, value in found.items()}
        return result

    def train(self, settings: dict[str, Any], seed: int) -> PACL:
        """Train a head.

        Args:
            settings: settings of the model, the data or ``max_steps`` that replace those of the configuration.
            seed: training seed.
        """
        model, data = dict(self.settings["model"]), dict(self.settings["data"]["init_args"])
        steps = settings.get("max_steps", self.settings["trainer"]["max_steps"])
        for key, value in settings.items():
            if key != "max_steps":
                (data if key in data else model)[key] = value
        dense = model["dense"]
        if dense not in self.data:
            self.data[dense] = SceneData(**data)
        return train_head(self.clip, model, self.data[dense], {"max_steps": steps}, seed)
