"""The patch embedder e_v: the only part that PACL trains.

A residual block in the place of CLIP's visual projection: main branch Linear-ReLU-Linear, skip branch one Linear.
For ViT-B/16 that is 768->512->512 plus 768->512, 1,050,112 parameters.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Start = Literal["clip", "paper"]
STARTS: tuple[str, ...] = get_args(Start)


class PatchEmbedder(nn.Module):
    """Maps frozen patch tokens ``[..., W]`` into the text embedding's space ``[..., D]`` (not normalised).

    Two starts. `start_paper` is random, as published. `start_clip` begins at CLIP's own visual projection: the skip
    branch is the projection and the main branch ends in zeros, so that at step 0 the patches say exactly what the
    training-free methods say, and training can only add to it.

    Attributes:
        main: Linear-ReLU-Linear branch, ``W -> hidden -> D``.
        skip: Linear branch, ``W -> D``.
    """

    def __init__(self, width: int, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or dim
        self.main = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.skip = nn.Linear(width, dim)

    @classmethod
    def start_paper(cls, width: int, dim: int, hidden: int | None = None) -> PatchEmbedder:
        """Random weights (torch's defaults), as the paper trains it."""
        return cls(width, dim, hidden)

    @classmethod
    def start_clip(cls, projection: Tensor, hidden: int | None = None) -> PatchEmbedder:
        """Start at CLIP's visual projection ``[W, D]``."""
        width, dim = projection.shape
        embedder = cls(width, dim, hidden)
        with torch.no_grad():
            embedder.skip.weight.copy_(projection.T)
            embedder.skip.bias.zero_()
            for parameter in embedder.main[-1].parameters():
                parameter.zero_()
        return embedder

    def forward(self, tokens: Tensor) -> Tensor:
        """Frozen patch tokens ``[..., W]`` -> patch embeddings ``[..., D]``."""
        return self.main(tokens) + self.skip(tokens)
