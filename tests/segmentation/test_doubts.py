"""What is said of prompts that may not be meant as words."""

from __future__ import annotations

import pytest

from pacl.errors import UnfamiliarWords
from pacl.models.backbone import Backbone
from pacl.models.model import PACL
from pacl.segmentation.segmenter import Segmenter


@pytest.mark.parametrize(
    ("prompts", "is_told"), [(["red", "photos"], True), (["bundled"], True), (["a photo", "Photos", "red"], False)]
)
def test_the_name_of_a_model_among_words_is_told(
    prompts: list[str], is_told: bool, clip: Backbone, recwarn: pytest.WarningsRecorder
) -> None:
    Segmenter(PACL.untrained(clip)).prepare(prompts)
    told = [each for each in recwarn if each.category is UnfamiliarWords and "name of a model" in str(each.message)]
    assert len(told) == is_told
