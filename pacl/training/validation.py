"""Retrieval between the validation images and their captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pacl.distributed import gather_rows, gather_texts
from pacl.errors import UserError
from pacl.metrics.retrieval import chance, recalls, score_all_pairs
from pacl.printing import counted

HIGH_CHANCE = 0.3
"""Recall of a random order, from which on there is a warning."""


class RetrievalValidator:
    """Collects the embedded images of a validation epoch and computes the recall over all of them at its end.

    Shapes: B images and T texts of a batch, I images of this process, P patches, D embedding.

    Attributes:
        chance: what a random order would give, by the names of the figures; known after `compute`.
        images: number of images of all processes; known after `compute`.
        texts: number of their different texts; known after `compute`.
    """

    def __init__(self) -> None:
        self.patches: list[Tensor] = []
        self.pairs: list[tuple[Sequence[str], Tensor]] = []
        self.chance: dict[str, float] = {}
        self.images = self.texts = 0

    def add(self, patches: Sequence[Tensor], texts: Sequence[str], positives: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            patches: unit patch embeddings [B, P, D], in any number of parts.
            texts: T texts, no two of them equal.
            positives: bool [B, T], True where the text belongs to the image; None: text i belongs to image i alone.
        """
        self.patches += [part.half().cpu() for part in patches if len(part)]
        self.pairs.append((texts, torch.eye(len(texts), dtype=torch.bool) if positives is None else positives.cpu()))

    def compute(
        self,
        encode_text: Callable[[Sequence[str]], Tensor],
        device: torch.device,
        *,
        temperature: float = 1.0,
        cosine: bool = True,
    ) -> dict[str, float]:
        """Recalls in [0, 1] over the images and texts of all processes, which must all call it.

        Args:
            encode_text: texts -> unit embeddings [T, D] on that device.
            device: where phi is computed.
            temperature: of phi, see `pacl.models.compatibility.compatibility`; without effect on single patches.
            cosine: whether phi is a cosine.

        Returns:
            `pacl.metrics.retrieval.Recalls.figures` with "val_" before each name: "val_recall" is the mean.

        Raises:
            UserError: there is no image with a text.
        """
        column: dict[str, int] = {}
        found, first = [torch.empty(2, 0, dtype=torch.int64)], 0
        for texts, positives in self.pairs:
            columns = torch.tensor([column.setdefault(text, len(column)) for text in texts], dtype=torch.int64)
            image, text = positives.nonzero().unbind(1)
            found.append(torch.stack([image + first, columns[text]]))
            first += len(positives)
        positives = torch.zeros(first, len(column), dtype=torch.bool)  # [I, texts of this process]
        positives[tuple(torch.cat(found, 1))] = True

        t, positives = gather_texts(list(column), encode_text(list(column)), positives.to(device))
        patches = torch.cat(self.patches) if self.patches else torch.empty(0, 1, t.shape[1])
        phi = score_all_pairs(patches, t, temperature=temperature, cosine=cosine, device=device).to(device)
        every = gather_rows(positives)
        if not every.any():
            raise UserError("no held-out image could be read: python -m pacl.data check lists why")
        self.images, self.texts = every.shape
        random = chance(every.sum(1).tolist(), every.sum(0).tolist())
        self.chance = {f"val_{name}": share for name, share in random.figures().items()}
        return {f"val_{name}": share for name, share in recalls(gather_rows(phi), every).figures().items()}

    def say_chance(self) -> str | None:
        """A warning that a random order finds so much that figures say little, and why; None where it does not."""
        share = self.chance["val_recall"]
        if share < HIGH_CHANCE:
            return None
        if self.texts < self.images / 2:
            captions = counted(self.texts, "different caption")
            why = f"the {self.images:,} held-out images have only {captions}, so that chance finds {share:.0%}"
            return f"{why} (val_recall): whether the head learns shows where captions tell images apart"
        why = f"the held-out set is so small that chance finds {share:.0%}"
        return f"{why} (val_recall): hold out more images to see whether the head learns"
