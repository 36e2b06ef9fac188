"""Detections of supervision: the fields, and what is said where it is missing."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pacl.errors import UserError
from pacl.results.supervision import to_detections
from tests.results.drawn import result, two_labels


@pytest.mark.parametrize("installed", [False, True], ids=["stand-in", "supervision"])
def test_a_detection_for_each_label_that_is_there(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed:
        pytest.importorskip("supervision")
    else:  # takes what it is given, so that this runs without the package

        class Detections:
            def __init__(self, **fields: Any) -> None:
                self.__dict__.update(fields)

        module = ModuleType("supervision")
        module.Detections = Detections  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "supervision", module)
    index = two_labels()
    index[index == 1] = 3  # ids 2 and 3
    found: Any = to_detections(result(index))
    assert found.class_id.tolist() == [1, 2]
    assert found.data["class_name"].tolist() == ["grass", "a cat"]
    np.testing.assert_array_equal(found.mask, np.stack([index == 2, index == 3]))
    np.testing.assert_array_equal(found.xyxy, [[5, 10, 15, 18], [2, 2, 28, 8]])
    assert (found.mask.dtype, found.xyxy.dtype, found.confidence.dtype) == (np.bool_, np.float32, np.float32)
    np.testing.assert_array_equal(found.confidence, [0.5, 0.5])


def test_without_labels_it_is_empty() -> None:
    pytest.importorskip("supervision")
    assert len(to_detections(result(np.zeros((20, 30), np.uint8)))) == 0


def test_without_supervision_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pacl\[tools\]"):
        to_detections(result())
