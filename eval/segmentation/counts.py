"""What is counted of every picture. All of it adds up, so parts can be measured anywhere, in any order, and joined.

Shapes: I pictures, R rows of the table (a method with a list of names), C classes. Areas are (hits, predicted, true)
pixels of each class among those that are scored.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pacl.files import written_whole


@dataclass(frozen=True)
class Counts:
    """The counts of some pictures, of integers but for what they cost.

    Attributes:
        run: str [1], the run that they are of (`eval.common.claim.digest`).
        index: int64 [I], which pictures of the benchmark.
        areas: int64 [I, R, 3, C].
        confusion: int64 [R, C, C], summed over the pictures; rows are true classes.
        seconds: float64 [1], that it took.
        peak: int64 [1], most bytes of memory in use.
        beyond: int64 [1], how many more than when the model was ready.
        boundary: int64 [I, R, 3, C], areas of the boundaries; none where nobody asked.
        patches: int64 [I, R, 2], patches whose most similar class is right, and patches that count; likewise.
        bound: int64 [I, 3, C], areas of the best that one label a patch can say; likewise.
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
        """Write a file, whole or not at all."""
        arrays = {key: value for key, value in vars(self).items() if value is not None}
        with written_whole(path) as aside:
            np.savez_compressed(aside, **arrays)

    @classmethod
    def load(cls, path: Path) -> Counts | None:
        """Read what `save` wrote; None of a file that is not there or damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    @classmethod
    def join(cls, parts: Sequence[Counts]) -> Counts:
        """The counts of all pictures, in the order of the benchmark."""
        order = np.argsort(np.concatenate([part.index for part in parts]))

        def together(name: str) -> np.ndarray | None:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)[order]

        joined = {f.name: together(f.name) for f in dataclasses.fields(cls) if f.name not in JOINED}
        return cls(
            **joined,  # type: ignore[arg-type]
            run=parts[0].run,
            confusion=sum(part.confusion for part in parts),  # type: ignore[arg-type]
            seconds=sum(part.seconds for part in parts),  # type: ignore[arg-type]
            peak=np.max([part.peak for part in parts], axis=0),
            beyond=np.max([part.beyond for part in parts], axis=0),
        )


JOINED = ("run", "confusion", "seconds", "peak", "beyond")
