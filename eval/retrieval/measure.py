"""Evaluate retrieval with a model: images and captions are encoded once, then each method ranks them.

Shapes: I images, T captions, P patches, D embedding.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from eval.classification.features import Loading, SquareImages, load_squares
from eval.retrieval import RERANKED
from eval.retrieval.caption_sets import CaptionSet
from eval.retrieval.reranking import reranked_recalls
from pacl.classification.features import embed
from pacl.cli.progress import tracked
from pacl.errors import UserError
from pacl.metrics.retrieval import Recalls, recalls, score_all_pairs
from pacl.models.model import PACL

KS = (1, 5, 10)
TEXTS = 640  # captions between two steps of the progress bar
ROWS = 64  # images whose phi with all captions is computed at a time


@dataclass(frozen=True)
class Encoded:
    """Embeddings of a caption set.

    Attributes:
        pooled: CLIP's embeddings of the images, float32 [I, D].
        pooled_texts: CLIP's embeddings of the captions, float32 [T, D].
        patches: patch embeddings of the images, float16 [I, P, D], memory-mapped; None if no method needs them.
        texts: embeddings of the captions by PACL's head, float32 [T, D], on the model's device.
    """

    pooled: Tensor
    pooled_texts: Tensor
    patches: Tensor | None
    texts: Tensor


def encode(model: PACL, captions: CaptionSet, methods: Sequence[str], loading: Loading, scratch: IO[bytes]) -> Encoded:
    """Encode all images and captions.

    Args:
        model: the model.
        captions: images and captions.
        methods: methods that will be evaluated; they decide whether patch embeddings are needed.
        loading: how images are read and encoded.
        scratch: temporary file for the patch embeddings.

    Raises:
        UserError: an image cannot be read, or embeddings are not finite.
    """
    squares = SquareImages(captions.source.image, len(captions.source), model)
    pooled: list[Tensor] = []
    shape: tuple[int, ...] = ()
    with torch.inference_mode():
        for images in load_squares(squares, model, loading, captions.annotations, "images"):
            whole, patches = embed(model, images, loading.precision)
            if not (whole.isfinite().all() and patches.isfinite().all()):
                raise UserError("embeddings are not finite; the model's weights are damaged")
            pooled.append(whole.cpu())
            if {"phi", RERANKED} & set(methods):
                shape = tuple(patches.shape[1:])
                scratch.write(patches.half().cpu().numpy().tobytes())
        texts = captions.texts()[0]
        for start in tracked(range(0, len(texts), TEXTS), "captions"):
            model.clip.encode_text(texts[start : start + TEXTS])  # kept, for the two lines that follow
        return Encoded(
            torch.cat(pooled),
            model.clip.encode_text(texts).cpu(),
            mapped(scratch, (len(captions.source), *shape)) if shape else None,
            model.encode_text(texts),
        )


def mapped(file: IO[bytes], shape: tuple[int, ...]) -> Tensor:
    """Memory-map a file of float16 numbers as a tensor of this shape."""
    file.flush()
    # (in copy-on-write mode, since torch warns about read-only memory; nothing is written)
    return torch.from_numpy(np.memmap(file, np.float16, "c", shape=shape))


def measure(
    model: PACL, encoded: Encoded, owners: Sequence[int], count: int, methods: Sequence[str], candidates: int | None
) -> dict[str, tuple[Recalls, float]]:
    """Rank images and captions with each method.

    Args:
        model: the model, for its phi.
        encoded: embeddings of images and captions.
        owners: index of the image of each caption.
        count: number of images I.
        methods: methods to evaluate, of `eval.retrieval.METHODS` and `RERANKED`.
        candidates: number of candidates that `RERANKED` reranks; only used by it.

    Returns:
        Method -> recalls and median ranks, and seconds of scoring and ranking.
    """
    positives = torch.zeros(count, len(owners), dtype=torch.bool)  # [I, T]
    positives[list(owners), range(len(owners))] = True
    # As a float the temperature may be infinite (mean pooling), for which phi is computed faster.
    temperature = model.temperature.detach() if model.config.learn_temperature else model.config.temperature
    pooling: dict[str, Any] = {"temperature": temperature, "cosine": model.config.cosine, "device": model.device}
    found: dict[str, tuple[Recalls, float]] = {}
    scores: Tensor | None = None  # one [I, T] at a time
    if {"pooled", RERANKED} & set(methods):
        start = time.perf_counter()
        scores = encoded.pooled @ encoded.pooled_texts.T
        found["pooled"] = recalls(scores, positives, KS), time.perf_counter() - start
        if RERANKED in methods:
            assert encoded.patches is not None
            assert candidates is not None
            reranked = reranked_recalls(scores, positives, encoded.patches, encoded.texts, candidates, ks=KS, **pooling)
            found[RERANKED] = reranked, time.perf_counter() - start
    if "phi" in methods:
        assert encoded.patches is not None
        start = time.perf_counter()
        scores = None
        scores = torch.empty(count, len(owners))
        for first_row in tracked(range(0, count, ROWS), "phi"):
            rows = slice(first_row, first_row + ROWS)
            scores[rows] = score_all_pairs(encoded.patches[rows], encoded.texts, batch=ROWS, **pooling)
        found["phi"] = recalls(scores, positives, KS), time.perf_counter() - start
    return {method: found[method] for method in methods}


def encode_and_measure(
    model: PACL, captions: CaptionSet, methods: Sequence[str], loading: Loading, candidates: int | None, folder: Path
) -> tuple[dict[str, tuple[Recalls, float]], float]:
    """Evaluate a model on a caption data set.

    Args:
        model, captions, methods, loading: as in `encode`.
        candidates: as in `measure`.
        folder: folder for a temporary file with the patch embeddings.

    Returns:
        The result of `measure`, and the seconds of encoding.

    Raises:
        UserError: an image cannot be read, embeddings are not finite, or the temporary file cannot be written.
    """
    owners = captions.texts()[1]
    start = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=folder) as scratch:
            encoded = encode(model, captions, methods, loading, scratch)
            seconds = time.perf_counter() - start
            return measure(model, encoded, owners, len(captions.source), methods, candidates), seconds
    except OSError as error:
        raise UserError(f"{folder}: patches cannot be written there ({error.strerror or error})") from error
