"""Training and validation images of the sources of a training, with warnings of what looks like a mistake."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from pacl.data.copies import count_copies, describe_copies, find_alike
from pacl.data.pairs import FilePairs, PairSource
from pacl.data.sources import Source

MANY_HELD = 0.3
"""Share of the images above which holding them out is warned of."""


def read_source(source: Source) -> FilePairs:
    """Read a source, and warn of what it does not use."""
    pairs = source.read()
    if pairs.unused:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in pairs.unused.items())
        rank_zero_warn(f"{source.pairs}: not used: {kinds}")
    return pairs


def split_source(source: Source, pairs: FilePairs) -> tuple[PairSource, PairSource]:
    """`Source.split`, with a warning if it holds out many of the images."""
    kept, held = source.split(pairs)
    total = len(kept) + len(held)
    if len(held) > MANY_HELD * total:
        rank_zero_warn(
            f"hold_out {source.hold_out}: {len(held):,} of the {total:,} images of {source.pairs} are held out and "
            f"only {len(kept):,} train; 0.1 holds out a tenth"
        )
    return kept, held


@rank_zero_only
def warn_of_copies(kept: Sequence[PairSource], held: Sequence[PairSource]) -> None:
    """Warn of training pairs that are all alike, and of held-out images that are also in training.

    From the first nothing can be learned; the second a head knows by heart.
    """
    if alike := find_alike(kept):
        rank_zero_warn(f"all {alike} that train are the same: nothing can be learned from them")
    if copies := count_copies(kept, held):
        rank_zero_warn(describe_copies(copies, count_images(held)))


def count_images(parts: Sequence[PairSource]) -> int:
    """Images of all sources together."""
    return sum(map(len, parts))
