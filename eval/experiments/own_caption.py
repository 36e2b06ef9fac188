"""A baseline that pools the patches of an image once, with weights from the image's own caption.

    python -m eval.experiments.own_caption --config configs/photos.yaml --out runs/own_caption

Arguments are the same as for ``python -m pacl.train``; only the pooling differs. PACL's phi pools the patches of an
image once per text, with weights from that text (see `pacl.models.compatibility`). The baseline compares one pooled
vector with all texts. This vector already contains information about the matching text, so the loss can decrease
although the patches learn little.
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
    """A `PACLModule` that pools the patches of an image with the weights of its own caption."""

    positives: Tensor

    def texts_of(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Embeddings [T, D] of the texts, and the positives, bool [B, T], which are also stored for `phi`."""
        t, self.positives = super().texts_of(batch)
        return t, self.positives

    def phi(self, tokens: Tensor, t: Tensor) -> Tensor:
        """Compare pooled patches with texts.

        Args:
            tokens: frozen tokens [B, P, W], pooled with weights from the first positive text of each image.
            t: embeddings of the texts, [T, D].

        Returns:
            Cosines, float32 [B, T].

        Raises:
            ArgumentError: ``images_at_once`` is set.
        """
        if self.hparams["images_at_once"]:
            images = self.hparams["images_at_once"]
            raise ArgumentError("images_at_once", images, "must be null: the baseline processes all images at once")
        v = self.pacl.embed_tokens(tokens.to(self.dtype))  # [B, P, D]
        with torch.autocast(v.device.type, enabled=False):  # like phi
            v, t = v.float(), t.float()
            own = t[self.positives.int().argmax(1)]  # [B, D]
            weights = (v @ own[:, :, None] / self.pacl.temperature).softmax(dim=1)  # [B, P, 1]
            return F.normalize((weights * v).sum(dim=1), dim=-1) @ t.T


def main(argv: Sequence[str] | None = None) -> int:
    """Train with the settings of the command line and save the head."""
    from pacl.cli.training_run import run

    return run(sys.argv[1:] if argv is None else argv, __doc__, OwnCaptionModule, "eval.experiments.own_caption")


if __name__ == "__main__":
    run_verb("eval.experiments.own_caption", main)
