"""Hints and warnings about prompts and images whose result may not be what the user expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacl.segmentation.encode import AnyImage
    from pacl.segmentation.segmenter import Segmenter

DRAWN = 0.6
"""Mean over the patches of the highest cosine with any word of the bundled model, in [-1, 1].

Most photos are below it and few drawn scenes are: an image "does not look like" a scene, the warning says, no more."""


SWALLOWED = 0.97
"""Share of an image's pixels above which one label may have taken those of the others."""

FEW = 5
"""Labels up to which all of them may be meant to be in every image; of longer lists one label often fills an image."""


def swallowed(record: Mapping[str, Any], prior: float | None) -> str | None:
    """The label of several that took nearly all pixels of an image, where that may not be meant; else None.

    Args:
        record: of the image.
        prior: the prior that holds; None or 0 is none. Above 0 the best fitting labels are meant to take all.
    """
    labels = record["labels"]
    if (prior or 0) > 0 or not 1 < len(labels) <= FEW:
        return None
    first = max(labels, key=lambda each: each["share"])
    return f'"{first["label"]}" took {first["share"]:.0%}' if first["share"] > SWALLOWED else None


def say_swallowed(found: Mapping[str, str], images: int, *, prior: float | None, calibrated: bool) -> str:
    """A note on images where one label took nearly all pixels, and what to try.

    Args:
        found: the images or videos, at least one, each with what `swallowed` says.
        images: how many there are altogether.
        prior: the prior that holds, as for `swallowed`.
        calibrated: whether the model is, and the background rule ``peak`` is possible.
    """
    image, what = next(iter(found.items()))
    if images > 1:
        happened = f"{len(found)} of {images} images went to one label each, such as {image}"
        which = "every image"
    else:
        happened, which = f"{what} of {image}", "it"
    if not prior:
        shared = "--prior -0.3"
    else:
        shared = "a stronger --prior such as -1, or commoner words" if prior > -1 else "commoner words"
    missing = "where some may be missing, --background peak" if calibrated else "if others are missing, name them, too"
    return f"{happened}: if all words are in {which}, try {shared}; {missing}"


def is_unlike_drawn_scenes(segmenter: Segmenter, image: AnyImage) -> bool:
    """Whether an image is probably none of the drawn scenes that the bundled model was trained on; see `DRAWN`."""
    import torch

    from pacl.segmentation.encode import encode_images
    from pacl.segmentation.settings import SegmenterSettings

    model = segmenter.model
    with torch.inference_mode():
        texts = model.encode_prompts(model.config.contrast, ("{}",)).float()
        encoded = encode_images([model], [image], SegmenterSettings())[0][0]
        return float(encoded.patches.similarity(texts).values.amax(1).mean()) < DRAWN
