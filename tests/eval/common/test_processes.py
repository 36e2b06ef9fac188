"""What each of several processes takes."""

from __future__ import annotations

import pytest
import torch

from eval.common.processes import Processes


@pytest.mark.parametrize(("gpus", "device"), [(4, "cuda:2"), (1, "cuda:0"), (0, "cpu")])
def test_each_process_takes_one_of_the_gpus_that_it_sees(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert Processes(2, 4).device("auto") == device
    assert Processes(2, 4).device("cpu") == "cpu"
    assert Processes().device("auto") == "auto"
