"""AdamW with a learning rate that rises linearly and then falls as a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn


def warmup_cosine(warmup: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: a linear rise over ``warmup`` steps, then a cosine to 0 at ``steps``."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return factor


def shorten_warmup(warmup: int, steps: int) -> int:
    """The steps of warm-up of a run of ``steps``: at most a quarter of them, else a short run would end in its warm-up.

    Warns:
        UserWarning: it is shortened.
    """
    used = min(warmup, max(1, steps // 4))
    if used < warmup:
        rank_zero_warn(f"warmup {warmup}: shortened to {used}, a quarter of the {steps} steps of this run")
    return used


def adamw(
    groups: list[dict[str, Any]],
    warmup: int,
    steps: int,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-6,
) -> dict[str, Any]:
    """Optimizer and schedule in the form that Lightning's ``configure_optimizers`` returns.

    Args:
        groups: groups of parameters, with ``lr`` and ``weight_decay``; those without parameters are left out.
        warmup: steps of warm-up.
        steps: steps of the whole run.
        betas: of AdamW; the default is CLIP's.
        eps: of AdamW; the default is CLIP's.
    """
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=betas, eps=eps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(warmup, steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
