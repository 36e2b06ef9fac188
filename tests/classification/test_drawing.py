"""`draw_similarity` draws what the command draws, and names what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pacl import ArgumentError, draw_similarity

SCORES = torch.tensor([[0.1, 0.4, 0.3], [0.2, 0.0, 0.1]])


def test_it_draws_images_of_any_form(photo: Path) -> None:
    texts = ["a", "b", "c"]
    named = draw_similarity([photo, str(photo)], texts, SCORES)
    assert isinstance(named, Image.Image)
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    unnamed = draw_similarity([pixels, pixels], texts, SCORES.numpy())
    assert named.height > unnamed.height  # names of files are drawn below the images
    given = draw_similarity([pixels, pixels], texts, SCORES, [photo.name] * 2)
    assert np.array_equal(np.asarray(given), np.asarray(named))


@pytest.mark.parametrize(
    ("images", "texts", "more", "argument"),
    [
        (2, ["a", "b"], {}, "scores"),
        (0, ["a", "b", "c"], {}, "scores"),
        (2, ["a", "b", "c"], {"names": ["one"]}, "names"),
        (2, "abc", {}, "texts"),
        (2, {"a", "b", "c"}, {}, "texts"),
        (2, ["a", "b", "c"], {"names": {"one", "two"}}, "names"),
        (2, ["a", "b", "c"], {"names": "12"}, "names"),
    ],
)
def test_what_does_not_fit_is_named(photo: Path, images: int, texts: object, more: dict, argument: str) -> None:
    with pytest.raises(ArgumentError) as error:
        draw_similarity([photo] * images, texts, SCORES, **more)  # type: ignore[arg-type]
    assert error.value.argument == argument


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(photo: Path, value: float) -> None:
    scores = SCORES.clone()
    scores[1, 2] = value
    with pytest.raises(ArgumentError) as error:
        draw_similarity([photo] * 2, ["a", "b", "c"], scores)
    assert error.value.argument == "scores"
