"""Retrieval among the held-out pictures and all their captions: what validation measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pacl.distributed import gather_rows, merge_texts
from pacl.metrics.retrieval import Recalls, recalls, score_all_pairs


class HeldOut:
    """Collects the pictures of one validation, batch by batch and on every process, and compares them in the end.

    Shapes: B images of a batch, I of all on this process, T texts, P patches, D embedding.
    """

    def __init__(self) -> None:
        self.patches: list[Tensor] = []
        self.pairs: list[tuple[Sequence[str], Tensor]] = []

    def add(self, patches: Sequence[Tensor], texts: Sequence[str], positives: Tensor) -> None:
        """Add a batch: unit patch embeddings [B, P, D] in any parts, its texts, and the right pairs, bool [B, T]."""
        self.patches += [part.half().cpu() for part in patches if len(part)]
        self.pairs.append((texts, positives.cpu()))

    def score(
        self,
        encode_text: Callable[[Sequence[str]], Tensor],
        device: torch.device,
        *,
        temperature: float = 1.0,
        cosine: bool = True,
    ) -> Recalls:
        """Recalls of the pictures and texts of all processes, which all call it.

        Args:
            encode_text: texts -> unit embeddings [T, D] on that device.
            device: where phi is computed.
            temperature: of phi, see `pacl.models.compatibility.compatibility`; of single patches it changes nothing.
            cosine: whether phi is a cosine.
        """
        column: dict[str, int] = {}
        right, first = [torch.empty(2, 0, dtype=torch.int64)], 0
        for texts, positives in self.pairs:
            columns = torch.tensor([column.setdefault(text, len(column)) for text in texts], dtype=torch.int64)
            image, text = positives.nonzero().unbind(1)
            right.append(torch.stack([image + first, columns[text]]))
            first += len(positives)
        positives = torch.zeros(first, len(column), dtype=torch.bool)  # [I, T of this process]
        positives[tuple(torch.cat(right, 1))] = True

        rows, positives = merge_texts(list(column), positives.to(device))
        t = gather_rows(encode_text(list(column)))
        t = t if rows is None else t[rows]  # [T, D]
        patches = torch.cat(self.patches) if self.patches else torch.empty(0, 1, t.shape[1])
        phi = score_all_pairs(patches, t, temperature=temperature, cosine=cosine, device=device).to(device)
        return recalls(gather_rows(phi), gather_rows(positives))
