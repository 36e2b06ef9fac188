"""The retrieval of a validation."""

from __future__ import annotations

import pytest
import torch

from pacl.errors import UserError
from pacl.training.validation import RetrievalValidator


def test_no_readable_image_is_one_line():
    validator = RetrievalValidator()
    validator.add([torch.empty(0, 4, 8)], [], torch.empty(0, 0, dtype=torch.bool))
    with pytest.raises(UserError, match="no held-out image"):
        validator.compute(lambda texts: torch.empty(len(texts), 8), torch.device("cpu"))


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        ([f"a dog {i}" for i in range(20)], None),
        ([f"a dog {i}" for i in range(10)], "so small"),
        (["a dog"] * 20, "20 held-out images have only 1 different caption,"),
        (["a dog"] * 19 + ["a cat"], "2 different captions"),
        (["a dog"] * 10, "1 different caption,"),
    ],
)
def test_why_chance_finds_much_is_said(texts, part):
    validator = RetrievalValidator()
    for text in texts:
        validator.add([torch.ones(1, 1, 8)], [text])
    validator.compute(lambda texts: torch.ones(len(texts), 8), torch.device("cpu"))
    said = validator.say_chance()
    assert said is None if part is None else part in said
