"""Notes of the commands on images whose result may not be what the user expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pacl.segmentation.image_doubts import other_prior

if TYPE_CHECKING:
    from pacl.segmentation.segmenter import Segmenter


def say_swallowed(
    found: Mapping[str, str], images: int, *, prior: float | None, calibrated: bool, background: bool = False
) -> str:
    """A note on images where one label took nearly all pixels, and what to try.

    Args:
        found: the images or videos, at least one, each with what `pacl.segmentation.image_doubts.swallowed` says.
        images: how many there are altogether.
        prior: the prior that holds, as for `swallowed`.
        calibrated: whether the model is, and the background rule ``peak`` is possible.
        background: whether there is a background rule, so that labels may be missing.
    """
    image, what = next(iter(found.items()))
    if images > 1:
        happened = f"{len(found)} of {images} images went to one label each, such as {image}"
        which = "every image"
    else:
        happened, which = f"{what} of {image}", "it"
    shared = other_prior(prior, "--prior")
    missing = "where some may be missing, --background peak" if calibrated else "if others are missing, name them, too"
    return f"{happened}: if all words are in {which}, try {shared}" + ("" if background else f"; {missing}")


def rules_of(segmenter: Segmenter) -> dict[str, Any]:
    """What `say_swallowed` asks about the segmenter, for several labels."""
    return {
        "prior": segmenter.resolved_settings().prior,
        "calibrated": segmenter.model.config.calibrated,
        "background": segmenter.background.kind not in ("auto", "none"),
    }
