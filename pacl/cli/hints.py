"""Hints and warnings about prompts and images whose result may not be what the user expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pacl.printing import counted

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


def swallowed(record: Mapping[str, Any], given: float | None) -> str | None:
    """The label of several that took nearly all pixels of an image, where a prior could share them out; else None.

    Args:
        record: of the image.
        given: the prior that holds; None or 0 is none.
    """
    labels = record["labels"]
    if given or not 1 < len(labels) <= FEW:
        return None
    first = max(labels, key=lambda each: each["share"])
    return f'"{first["label"]}" took {first["share"]:.0%}' if first["share"] > SWALLOWED else None


def say_swallowed(found: Mapping[str, str], images: int, calibrated: bool) -> str:
    """A note on images where one label took nearly all pixels, and what to try.

    Args:
        found: the images, at least one, each with what `swallowed` says.
        images: how many there are altogether.
        calibrated: whether the model is, and the background rule ``peak`` is possible.
    """
    image, what = next(iter(found.items()))
    many = f"{len(found)} of {counted(images, 'image')} went to one label each, such as {image}"
    peak = "; where some may be missing, --background peak" if calibrated else "; if others are missing, name them, too"
    return (
        f"{many if images > 1 else f'{what} of {image}'}: if all words are in "
        f"{'every' if images > 1 else 'the'} image, try --prior -0.3{peak}"
    )


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
