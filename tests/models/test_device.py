"""Devices by name: ``auto`` is the best there is, and one that there is not is refused."""

from __future__ import annotations

import pytest
import torch

from pacl.errors import ArgumentError
from pacl.models.device import choose_device


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_cuda_then_mps_then_the_cpu(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == choose_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "gpu", "meta", "", "cpu:x", "None"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ArgumentError) as error:
        choose_device(name)
    assert (error.value.argument, error.value.value) == ("device", name)


def test_a_device_may_be_given_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(torch.device("cpu")) == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ArgumentError):
        choose_device(torch.device("cuda", 2))
