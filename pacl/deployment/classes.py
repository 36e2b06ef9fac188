"""Labels as embeddings: what a deployed model compares its patches with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pacl.errors import ArgumentError, UserError
from pacl.models.precision import inference
from pacl.prompts import Label
from pacl.results.palette import palette

if TYPE_CHECKING:
    from pacl.segmentation.segmenter import Segmenter

BY_TEXT = ("none", "prompt", "contrast")
"""Background rules that are texts beside the labels; the other rules are arithmetic on the result."""


@dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """N prompts that compete.

    Attributes:
        labels: names of the labels, C of them.
        prompts: the N prompts, those of the background first.
        ids: of each prompt, the id that a pixel gets where it wins: i + 1 for ``labels[i]``, 0 for the background.
        embeddings: float32 ``[N, D]``, unit norm, the mean over the templates.
        subtract: float32 ``[N]``, what is subtracted from the cosines with each: the mean cosine over photos that a
            calibrated model knows, and the margin of words that compete with a single prompt.
        background: the rule.
    """

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    ids: tuple[int, ...]
    embeddings: Tensor
    subtract: Tensor
    background: str

    def described(self, file: str) -> dict[str, Any]:
        """All but the embeddings, for JSON."""
        return {
            "file": file,
            "labels": list(self.labels),
            "prompts": list(self.prompts),
            "ids": list(self.ids),
            "colours": palette(len(self.labels)).tolist(),
            "subtract": self.subtract.tolist(),
            "background": self.background,
        }


@inference()
def embed_classes(segmenter: Segmenter, labels: Iterable[str | Label]) -> ClassEmbeddings:
    """The labels as `Segmenter.predict` reads them, with its checks and warnings.

    Raises:
        ArgumentError: ``background``: its rule is not one of texts.
        UserError: as `Segmenter.predict`.
    """
    encoded = segmenter.prepare(labels)
    query, texts = encoded.query, encoded.texts.float().cpu()
    if query.background.kind not in BY_TEXT:
        reason = "is not made of texts and cannot be exported; choose another rule, such as contrast"
        if segmenter.settings.background == "auto":  # nobody named the rule
            label = query.labels[0].name
            raise UserError(
                f"{label!r} is the only label: its background rule, {query.background}, {reason}, or name a second "
                "label"
            )
        raise ArgumentError("background", query.background, reason)
    subtract = torch.tensor([query.margin * (i == 0) for i in query.ids])
    if (centre := segmenter.model.centre) is not None:
        subtract = subtract + texts @ centre.cpu()
    return ClassEmbeddings(
        tuple(label.name for label in query.labels),
        query.prompts,
        query.ids,
        texts,
        subtract,
        str(query.background),
    )
