"""Baseline: pool each image with its OWN caption only, and compare that vector with every text.

    python -m eval.experiments.own_caption --config configs/photos.yaml --out runs/own_caption

Arguments are those of ``python -m pacl.train``; only the pooling differs. In phi every text pools the patches with its
own weights. Here the weights come from the image's caption, for all texts: the image vector contains information about
the correct text before the comparison, so that the loss can decrease although the patches learn little. See
`pacl.models.compatibility`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pacl.cli.messages import run_verb
from pacl.errors import ArgumentError
from pacl.training.module import PACLModule


class OwnCaptionModule(PACLModule):
    """Trains the embedder of `PACLModule` with pooling by the image's own caption."""

    positives: Tensor

    def texts_of(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Embeddings [T, D] of the texts, and the positives of each image, bool [B, T], kept for the pooling."""
        t, self.positives = super().texts_of(batch)
        return t, self.positives

    def phi(self, tokens: Tensor, t: Tensor) -> Tensor:
        """Cosines [B, T] of texts [T, D] with tokens [B, P, W] pooled by the first positive of their image."""
        if self.hparams["images_at_once"]:
            images = self.hparams["images_at_once"]
            raise ArgumentError("images_at_once", images, "must be null: the baseline takes all images at once")
        v = self.pacl.embed_tokens(tokens.to(self.dtype))  # [B, P, D]
        with torch.autocast(v.device.type, enabled=False):  # as phi is computed
            v, t = v.float(), t.float()
            own = t[self.positives.int().argmax(1)]  # [B, D]
            weights = (v @ own[:, :, None] / self.pacl.temperature).softmax(dim=1)  # [B, P, 1]
            return F.normalize((weights * v).sum(dim=1), dim=-1) @ t.T


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, save the head."""
    from pacl.cli.training import run

    return run(sys.argv[1:] if argv is None else argv, __doc__, OwnCaptionModule, "eval.experiments.own_caption")


if __name__ == "__main__":
    run_verb("eval.experiments.own_caption", main)
