"""Training and validation images of the sources of a training, with warnings of what looks like a mistake."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from pacl.data.copies import (
    count_copies,
    count_twice,
    describe_alike,
    describe_copies,
    describe_twice,
    find_alike,
)
from pacl.data.image_paths import find_missing, place_of
from pacl.data.pairs import FilePairs, PairSource
from pacl.data.sources import Source
from pacl.errors import ArgumentError

MANY_HELD = 0.3
"""A warning tells of held-out images if they are more than this share of all."""

MEND = "python -m pacl.data check lists all: mend them or take them out of the captions, or raise the share"
"""What to do where too many images cannot be used, in words for an error about ``max_skipped``."""


def read_source(source: Source) -> FilePairs:
    """Read a source, and warn of what it does not use."""
    pairs = source.read()
    if pairs.unused:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in pairs.unused.items())
        rank_zero_warn(f"{source.pairs}: not used: {kinds}")
    return pairs


def read_validation(source: Source, max_skipped: float) -> PairSource:
    """`read_source`, `Source.validation` and `check_files`."""
    pairs = read_source(source)
    chosen = source.validation(pairs)
    check_files(source, pairs, [chosen], max_skipped)
    return chosen


def split_source(source: Source, pairs: FilePairs, max_skipped: float = 1.0) -> tuple[PairSource, PairSource]:
    """`Source.split` and `check_files`, with a warning if many of the images are held out."""
    kept, held = source.split(pairs)
    check_files(source, pairs, (kept, held), max_skipped)
    total = len(kept) + len(held)
    if len(held) > MANY_HELD * total and len(kept) > 1:  # one alone is refused
        rank_zero_warn(
            f"hold_out {source.hold_out}: {len(held):,} of the {total:,} images of {source.pairs} are held out and "
            f"only {len(kept):,} train; 0.1 holds out a tenth"
        )
    return kept, held


@rank_zero_only
def warn_of_copies(kept: Sequence[PairSource], held: Sequence[PairSource]) -> tuple[int, int] | None:
    """Warn of data that spoil a training or its validation.

    Nothing can be learned from pairs that are all alike. Held-out images that are also in the training set give scores
    that are too high. If an image is held out twice, the captions of one copy count as wrong for the other.

    Returns:
        The number of held-out images that are also in the training set, and of those that are held out twice; None in
        all processes but the first, which alone compares them.
    """
    if alike := find_alike(kept):
        rank_zero_warn(describe_alike(alike))
    if copies := count_copies(kept, held):
        rank_zero_warn(describe_copies(copies, count_images(held)))
    if twice := count_twice(held):
        rank_zero_warn(describe_twice(twice, count_images(held)))
    return copies, twice


def check_files(source: Source, pairs: FilePairs, parts: Sequence[PairSource], max_skipped: float) -> None:
    """Look for the image files of a source before any is encoded, and warn if some are missing.

    Args:
        source: as it is configured.
        pairs: what was read from it.
        parts: the images of these that are used, see `find_missing`.
        max_skipped: share of them that may be missing.

    Raises:
        UserError: all are missing.
        ArgumentError: ``max_skipped``: too many are missing.
    """
    missing, looked_for = find_missing(source.pairs, pairs.root, parts)
    if not missing:
        return
    where, first = place_of(missing[0], pairs.root)
    reason = f"{len(missing):,} of {looked_for:,} images of {source.pairs} are not in {where} (first: {first})"
    if len(missing) > max_skipped * looked_for:
        raise ArgumentError("max_skipped", max_skipped, f"{reason}, more than this share; {MEND}")
    rank_zero_warn(reason)


def count_images(parts: Sequence[PairSource]) -> int:
    """Images of all sources together."""
    return sum(map(len, parts))
