"""A supervised classifier of single patches: how much information about the classes the frozen tokens contain.

PACL is trained on captions only. This classifier takes the same frozen tokens, but is trained on masks.
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


def train_patch_classifier(tokens: Tensor, scenes: SceneSet, grid: PatchGrid, steps: int, seed: int = 0) -> nn.Module:
    """Train a two-layer classifier with cross-entropy. The target of a patch is the share of each label in it.

    Args:
        tokens: frozen tokens [N, P, W] of the scenes.
        scenes: N training scenes with their labels.
        grid: the patch grid.
        steps: number of AdamW steps with `BATCH` patches each.
        seed: seed of the initial weights and of the batches.

    Returns:
        The classifier, tokens [..., W] -> logits of all names [..., C], in eval mode.
    """
    targets = torch.cat([label_shares(labels, grid) for labels in scenes.labels.split(100)])  # [N, C, h, w]
    targets, inputs = rearrange(targets, "n c h w -> (n h w) c"), tokens.flatten(0, 1).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = nn.Sequential(nn.Linear(inputs.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(NAMES)))
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=LR)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(0, steps))
        for _ in range(steps):
            batch = torch.randint(len(inputs), (BATCH,))
            loss = F.cross_entropy(classifier(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval()
