"""Hints and warnings about prompts and images whose result may not be what the user expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pacl.class_files import several_names
from pacl.prompts import Label

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
    """A note that one of several labels took nearly all pixels of an image, where a prior could share them out.

    Args:
        record: of the image.
        given: the prior that holds; None or 0 is none.
    """
    labels = record["labels"]
    if given or not 1 < len(labels) <= FEW:
        return None
    first = max(labels, key=lambda each: each["share"])
    if first["share"] <= SWALLOWED:
        return None
    return (
        f'"{first["label"]}" took {first["share"]:.0%} of {record["image"]}; if all words are in the image, '
        "try --prior -0.3; if others are missing, name them, too"
    )


def lists_in_prompts(labels: Sequence[Label]) -> str | None:
    """A note on the first prompt that is probably a list of several names, which other tools take in one text."""
    found = [(prompt, names) for label in labels for prompt in label.prompts if (names := several_names(prompt))]
    if not found:
        return None
    prompt, names = found[0]
    words = " ".join(f'"{name}"' if " " in name else name for name in names)
    more = f" (and {len(found) - 1} more such prompts)" if len(found) > 1 else ""
    return f'prompt "{prompt}" is one label; for {len(names)} labels write {words}{more}'


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
