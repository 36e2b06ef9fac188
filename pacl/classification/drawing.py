"""The scores of images and texts as one drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from pacl.classification.scorer import as_images, plain_texts
from pacl.errors import ArgumentError, are_several
from pacl.results.matrix import CELL, similarity_matrix
from pacl.results.overlay import fit
from pacl.segmentation.encode import AnyImage, as_array


def draw_similarity(
    images: Iterable[AnyImage], texts: Iterable[str], scores: Tensor | np.ndarray, names: Sequence[str] | None = None
) -> Image.Image:
    """Draw the scores of I images with N texts as a matrix, as ``pacl similarity`` does; each image's best is framed.

    Args:
        images: as for `pacl.score_images`.
        texts: as for `pacl.score_images`.
        scores: what `pacl.score_images` returns for them, [I, N].
        names: of the images; None takes those of the files, where all images are paths.

    Raises:
        ArgumentError: ``images``, ``texts``, ``scores`` and ``names`` do not fit each other, or a score is not finite.
        UserError: a file cannot be read.

    Example:
        >>> draw_similarity(["cat.jpg"], ["a cat", "a dog"], score_images(model, ["cat.jpg"], ["a cat", "a dog"]))
    """
    found, labels = as_images(images), [label.name for label in plain_texts(texts)]
    values = np.asarray(scores.detach().cpu() if isinstance(scores, Tensor) else scores, dtype=np.float32)
    if values.shape != (len(found), len(labels)) or not found:
        reason = f"must have a row for each of the {len(found)} images and a column for each of the {len(labels)} texts"
        raise ArgumentError("scores", f"of shape {values.shape}", reason)
    if not np.isfinite(values).all():
        raise ArgumentError("scores", f"of shape {values.shape}", "must be finite; some are NaN or infinite")
    if names is None and all(isinstance(image, (str, Path)) for image in found):
        names = [Path(image).name for image in found]  # type: ignore[arg-type]
    if names is not None:
        if not are_several(names):
            raise ArgumentError(
                "names", f"of type {type(names).__name__}", "must be a list with the name of each image"
            )
        names = list(names)
        if len(names) != len(found):
            raise ArgumentError("names", f"({len(names)})", f"must be as many as the images ({len(found)})")
    thumbnails = [fit(as_array(image, f"images[{i}]"), CELL) for i, image in enumerate(found)]
    return Image.fromarray(similarity_matrix(thumbnails, labels, values, names=names or ()))
