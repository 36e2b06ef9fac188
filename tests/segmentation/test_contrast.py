"""Which contrast prompts compete with a prompt."""

from __future__ import annotations

import pytest

from pacl.prompts import GENERIC_CONTRAST
from pacl.segmentation.contrast import competitors


@pytest.mark.parametrize(
    ("prompt", "rival", "competes"),
    [
        ("a fish", "a red fish", False),
        ("a red fish", "a fish", True),
        ("a red fish", "a blue fish", True),
        ("a red fish", "grass", True),
        ("a red fish", "the red fishes", False),
        ("a photo of a dog", "dogs", False),
        ("the dogs", "a dog", False),
        ("glasses", "a wine glass", False),
        ("a bus", "buses", False),
        ("puppies", "a puppy", False),
        ("horses", "horse", False),
        ("grass", "a gras", True),
        ("a cat", "a caterpillar", True),
        ("DOG", "a dog", False),
        ("the", "a dog", True),
    ],
)
def test_competitors(prompt: str, rival: str, competes: bool) -> None:
    assert competitors([prompt], [rival]) == ([rival] if competes else [])


def test_competitors_of_synonyms_keep_order_and_drop_repetitions() -> None:
    assert competitors(["a dog", "a puppy"], ["sky", "a puppy", "grass", "dog", "sky"]) == ["sky", "grass"]
    assert competitors([], ["a", "b"]) == ["a", "b"]


def test_a_dog_does_not_compete_with_a_hot_dog() -> None:
    assert len(competitors(["a dog"], GENERIC_CONTRAST)) == len(GENERIC_CONTRAST) - 2  # a dog, a hot dog
