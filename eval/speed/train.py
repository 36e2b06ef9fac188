"""Images per second of a training step, beside the bare forward pass of the frozen tower at the same batch.

The step is `PACLModule.training_step` with its backward pass and AdamW's step. Images are decoded, captions encoded, as
they are after a run's first epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from eval.speed.measure import Options, Row, Way, compare, free
from pacl.models.head import HeadSettings
from pacl.models.loading import load_model
from pacl.models.precision import Precision, tower_autocast
from pacl.training.module import PACLModule

GPU_BATCH, CPU_BATCH, QUICK_BATCH = 256, 16, 4


def rows(options: Options) -> Iterator[Row]:
    """All models, in each precision of the frozen tower."""
    batch = QUICK_BATCH if options.quick else GPU_BATCH if options.device.type == "cuda" else CPU_BATCH
    for name in options.models:
        for precision in options.precisions:
            module = module_of(name, precision).to(options.device)
            case = f"{name}, batch of {batch} images, {module.image_size} px"
            yield from compare("train", case, ways(module, batch, precision), options)
            del module
            free(options.device)


def module_of(name: str, precision: Precision) -> PACLModule:
    """The training of a model's head, with the settings that the head has."""
    config = load_model(name, device="cpu").config
    head = {field: getattr(config, field) for field in HeadSettings.__dataclass_fields__}
    return PACLModule(config.backbone, list(config.layers), precision=precision, **head).train()


def ways(module: PACLModule, batch: int, precision: str) -> list[Way]:
    """The bare tower, a step from images, a step from kept tokens, and where the time of that one goes.

    What its forward pass and AdamW's step leave of it is the backward pass.
    """
    clip, side = module.pacl.clip, module.image_size
    images = torch.rand(batch, 3, side, side, device=module.device)
    tokens = module.frozen_tokens(images)
    normalised = clip.normalize(images)
    texts = [f"a photo of thing {i}" for i in range(batch)]
    optimizer = torch.optim.AdamW(module.trained_parameters(), lr=1e-6)

    @torch.no_grad()
    def tower() -> None:
        with tower_autocast(precision, clip):
            clip.patch_tokens(normalised, module.pacl.config.dense)

    def forward(**inputs: Any) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*self.log.*")  # there is no trainer that could log
            loss = module.training_step({"texts": texts, **inputs}, 0)
        assert loss is not None, "a batch of one image has no step"
        return loss

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # the next call needs gradients, too

    def step(**inputs: Any) -> None:
        forward(**inputs).backward()
        update()

    limit = Way("tower", tower, precision, items=batch)
    whole = Way("step", lambda: step(images=images), precision, limit=limit, items=batch)
    kept = Way("step from kept tokens", lambda: step(tokens=tokens), precision, whole, items=batch)
    return [
        *(limit, whole, kept),
        Way("its forward pass", lambda: forward(tokens=tokens), precision, kept),
        Way("its AdamW", update, precision, kept),
    ]
