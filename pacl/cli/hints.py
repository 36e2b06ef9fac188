"""What a user should know of prompts and images before trusting a result: hints and warnings, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pacl.class_files import several_names
from pacl.prompts import Label, fill, unknown_words

if TYPE_CHECKING:
    from pacl.segmentation.encode import AnyImage
    from pacl.segmentation.query import EncodedQuery
    from pacl.segmentation.segmenter import Segmenter

NAMED = 10
"""Number of words that a warning lists; of the others it gives the number."""
SAME = 1 - 1e-5
"""Cosine above which two prompts are the same to a model."""
DRAWN = 0.6
"""Mean over the patches of the highest cosine with any word of the bundled model, in [-1, 1].

It was above 0.61 for all of 60 drawn scenes of the test split, and below 0.6 for 88 % of 120 photos (100 of ImageNet,
20 of CamVid)."""


def lists_in_prompts(labels: Sequence[Label]) -> str | None:
    """A note on the first prompt that is probably a list of several names, which other tools take in one text."""
    found = [(prompt, names) for label in labels for prompt in label.prompts if (names := several_names(prompt))]
    if not found:
        return None
    prompt, names = found[0]
    words = " ".join(f'"{name}"' if " " in name else name for name in names)
    more = f" (and {len(found) - 1} more such prompts)" if len(found) > 1 else ""
    return f'prompt "{prompt}" is one label; for {len(names)} labels write {words}{more}'


def unknown_to(segmenter: Segmenter, labels: Sequence[Label]) -> str | None:
    """A warning of the words that a model with a small vocabulary was never taught."""
    vocabulary = segmenter.model.clip.vocabulary
    prompts = [prompt for label in labels for prompt in label.prompts] + list(segmenter.background.prompts)
    templates = [text for template in segmenter.templates if (text := fill(template, "").strip(" .,"))]
    unknown = unknown_words([*prompts, *templates], vocabulary)
    if vocabulary is None or not unknown:
        return None
    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    return (
        f"this model knows {len(vocabulary)} words and not {', '.join(map(repr, unknown[:NAMED]))}{more}: "
        "the masks of prompts with them mean nothing"
    )


def same_prompts(encoded: EncodedQuery) -> Iterator[str]:
    """A warning for each prompt that has the same text vector as one of another label or of the background."""
    texts, ids, prompts = encoded.texts, encoded.query.ids, encoded.query.prompts
    for n in range(1, len(prompts)):
        for m in (texts[:n] @ texts[n] > SAME).nonzero().flatten().tolist():
            if ids[m] != ids[n]:
                yield f'prompts "{prompts[m]}" and "{prompts[n]}" are the same to this model: only one of them can win'
                break


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
