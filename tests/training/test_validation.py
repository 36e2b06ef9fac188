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
