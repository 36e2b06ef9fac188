from __future__ import annotations

from types import SimpleNamespace

import cv2
import pytest

from pacl.opencv import quiet


@pytest.mark.parametrize("is_old", [False, True])
def test_the_level_is_silent_and_comes_back(is_old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    level = [3]
    functions = {"getLogLevel": lambda: level[0], "setLogLevel": lambda value: level.__setitem__(0, value)}
    if is_old:  # before OpenCV 4.13
        monkeypatch.delattr(cv2.utils, "logging", raising=False)
        for name, function in functions.items():
            monkeypatch.setattr(cv2, name, function, raising=False)
    else:
        monkeypatch.setattr(cv2.utils, "logging", SimpleNamespace(**functions), raising=False)
    with quiet():
        assert level == [0]
        with quiet():
            assert level == [0]
        assert level == [0]
    assert level == [3]
