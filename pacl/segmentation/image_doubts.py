"""What a user should know about an image or its result: one label took all, or it is none that the model knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pacl.models.precision import inference

if TYPE_CHECKING:
    from pacl.models.model import PACL
    from pacl.segmentation.encode import AnyImage

DRAWN = 0.6
"""Mean over the patches of the highest cosine with any word of the bundled model, in [-1, 1].

Most photos are below it and few drawn scenes are: an image "does not look like" a scene, the warning says, no more. It
was chosen with the model's own dense variant, `OWN`."""

OWN = "value"
"""The dense variant that the bundled model was trained with."""

COMPARED = 5
"""Images of a run, the first ones, that are compared with drawn scenes: each is encoded for that once more."""

SWALLOWED = 0.97
"""Share of an image's pixels above which one label may have taken those of the others."""

FEW = 5
"""Labels up to which all of them may be meant to be in every image; of longer lists one label often fills an image."""


def swallowed(shares: Mapping[str, float], prior: float | None) -> str | None:
    """The label of several that took nearly all pixels of an image, where that may not be meant; else None.

    Args:
        shares: the share of the image's pixels that each label got, in [0, 1], by its name.
        prior: the prior that holds; None or 0 is none. Above 0 the best fitting labels are meant to take all.
    """
    if (prior or 0) > 0 or not 1 < len(shares) <= FEW:
        return None
    label = max(shares, key=lambda each: shares[each])
    return f'"{label}" took {shares[label]:.0%}' if shares[label] > SWALLOWED else None


def other_prior(prior: float | None, setting: str) -> str:
    """What to try where all labels are in an image that one of them took.

    Args:
        prior: the prior that holds; None or 0 is none.
        setting: what stands before the value of a prior, such as ``--prior``.
    """
    if not prior:
        return f"{setting} -0.3"
    return f"{setting} -0.6, or commoner words" if prior > -0.6 else "commoner words"


def unlike_drawn_scenes(model: PACL, image: AnyImage, name: object) -> str | None:
    """A warning that an image is probably none of the drawn scenes that the bundled model knows, see `DRAWN`.

    None if it looks like one, or if the model has another dense variant than its own.
    """
    if model.config.dense != OWN:
        return None

    from pacl.segmentation.encode import encode_images
    from pacl.segmentation.settings import SegmenterSettings

    with inference():
        texts = model.encode_prompts(model.config.contrast, ("{}",)).float()
        encoded = encode_images([model], [image], SegmenterSettings())[0][0]
        if float(encoded.patches.similarity(texts).values.amax(1).mean()) >= DRAWN:
            return None
    return (
        f"{name} does not look like the drawn scenes that this model was trained on: the masks mean little; use the "
        "model photos or a public CLIP"
    )
