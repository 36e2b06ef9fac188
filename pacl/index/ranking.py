"""Exact ranking: the cosines of all vectors of an index with those of a query, in one matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pacl.errors import UserError
from pacl.index.file import IndexFile
from pacl.models.precision import inference

DIGITS = 6  # decimals of a score; images whose scores are equal in all of them are ranked by path


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of I images, of which equal files share one.

    Attributes:
        paths: of the images, sorted.
        ids: of the image's embeddings in the file of the index, int64 [I].
        rows: in ``vectors``, of each image, int64 [I].
        vectors: of the embeddings, float32 [E, D], of unit length.
    """

    paths: list[bytes]
    ids: np.ndarray
    rows: np.ndarray
    vectors: np.ndarray

    @classmethod
    def read(cls, file: IndexFile) -> Vectors:
        """Read all vectors of an index into memory."""
        paths, ids = file.owners()
        embeddings, vectors = file.vectors()
        return cls(paths, ids, np.searchsorted(embeddings, ids), vectors)

    @inference()
    def scores(self, queries: Tensor) -> np.ndarray:
        """The highest cosine of each image with queries float32 [N, D], N >= 1: float32 [I].

        Raises:
            UserError: there is no image.
        """
        if not self.paths:
            raise UserError("the index has no image, as it was interrupted before the first; bring it up to date")
        cosines = torch.from_numpy(self.vectors) @ queries.float().cpu().T  # [E, N]
        return cosines.amax(dim=1).numpy()[self.rows]


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The indices of the ``count`` highest scores, the highest first; equal ones in their order."""
    return np.argsort(-np.round(scores.astype(np.float64), DIGITS), kind="stable")[:count]
