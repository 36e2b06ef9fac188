"""Hints and warnings about prompts and images whose result may not be what the user expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pacl.class_files import several_names
from pacl.prompts import Label

if TYPE_CHECKING:
    from pacl.segmentation.encode import AnyImage
    from pacl.segmentation.segmenter import Segmenter

DRAWN = 0.6
"""Mean over the patches of the highest cosine with any word of the bundled model, in [-1, 1].

Of 193 photos of Pascal VOC 139 are below it, of 60 drawn scenes with four objects (``scene("test", i, pairs="all",
n_objects=4)``) 3: the warning says that an image "does not look like" a scene, no more."""


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
