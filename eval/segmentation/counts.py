"""Pixel and patch counts of every image. They are additive: parts of a data set can be measured separately and joined.

Shapes: I images, R rows of the table (a method with a list of names), C classes. Areas are the numbers of scored pixels
of each class, as in `pacl.metrics.segmentation`: correct, predicted, labelled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pacl.files import atomic_write


@dataclass(frozen=True)
class Counts:
    """The counts of some images, and the time and memory that it took to measure them.

    Attributes:
        run: str [1], fingerprint of the run (`eval.common.folders.run_digest`).
        index: int64 [I], positions of the images in the benchmark.
        areas: int64 [I, R, 3, C].
        confusion: int64 [R, C, C], summed over the images; rows are true classes.
        seconds: float64 [1], time of the measurement.
        peak: int64 [1], peak memory in bytes.
        beyond: int64 [1], peak memory above that of the loaded model, in bytes.
        boundary: int64 [I, R, 3, C], areas near contours; None: not measured.
        patches: int64 [I, R, 2], patches with the correct most similar class, and scored patches; None: not measured.
        bound: int64 [I, 3, C], areas of the best map with one label a patch; None: not measured.
    """

    run: np.ndarray
    index: np.ndarray
    areas: np.ndarray
    confusion: np.ndarray
    seconds: np.ndarray
    peak: np.ndarray
    beyond: np.ndarray
    boundary: np.ndarray | None = None
    patches: np.ndarray | None = None
    bound: np.ndarray | None = None

    def save(self, path: Path) -> None:
        """Write a file atomically."""
        arrays = {key: value for key, value in vars(self).items() if value is not None}
        with atomic_write(path) as aside:
            np.savez_compressed(aside, **arrays)

    @classmethod
    def load(cls, path: Path) -> Counts | None:
        """Read a file that `save` wrote; None if it is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except Exception:  # damaged archives raise many types
            return None

    @classmethod
    def join(cls, parts: Sequence[Counts]) -> Counts:
        """The counts of all images, in the order of the benchmark."""
        order = np.argsort(np.concatenate([part.index for part in parts]))

        def concatenated(name: str) -> np.ndarray | None:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)[order]

        joined = {f.name: concatenated(f.name) for f in dataclasses.fields(cls) if f.name not in OF_THE_WHOLE}
        return cls(
            **joined,  # type: ignore[arg-type]
            run=parts[0].run,
            confusion=sum(part.confusion for part in parts),  # type: ignore[arg-type]
            seconds=sum(part.seconds for part in parts),  # type: ignore[arg-type]
            peak=np.max([part.peak for part in parts], axis=0),
            beyond=np.max([part.beyond for part in parts], axis=0),
        )


OF_THE_WHOLE = ("run", "confusion", "seconds", "peak", "beyond")
"""Fields that have no entry for each image; `Counts.join` sums them or takes the largest."""
