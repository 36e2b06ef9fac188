"""Supervised probe: a classifier of single patches on the frozen tokens, trained on masks.

PACL is trained on captions only. The probe is trained on the labels of all pixels, on the same tokens, and shows how
much information about the classes the tokens hold.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from eval.scenes.sets import NAMES, SceneSet, label_shares
from pacl.models.towers.grid import PatchGrid
from pacl.training.optimizer import warmup_cosine

HIDDEN, BATCH, LR = 256, 2048, 2e-3


def train_probe(tokens: Tensor, scenes: SceneSet, grid: PatchGrid, steps: int, seed: int = 0) -> nn.Module:
    """Fit a two-layer classifier to the shares of the labels in each patch.

    Args:
        tokens: frozen tokens [N, P, W] of the scenes.
        scenes: N training scenes with their labels.
        grid: the patch grid.
        steps: number of AdamW steps, of `BATCH` patches each.
        seed: of weights and batches.

    Returns:
        A module: tokens [..., W] -> logits of all names [..., C].
    """
    targets = torch.cat([label_shares(labels, grid) for labels in scenes.labels.split(100)])  # [N, C, h, w]
    targets, inputs = rearrange(targets, "n c h w -> (n h w) c"), tokens.flatten(0, 1).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = nn.Sequential(nn.Linear(inputs.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(NAMES)))
        optimizer = torch.optim.AdamW(probe.parameters(), lr=LR)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(0, steps))
        for _ in range(steps):
            some = torch.randint(len(inputs), (BATCH,))
            loss = -(targets[some] * F.log_softmax(probe(inputs[some]), dim=-1)).sum(dim=-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return probe.eval()
