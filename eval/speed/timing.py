"""What the speed commands share: timing on a device, and a description of the device."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call in seconds, including work that it leaves to the GPU."""
    import torch

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def describe(device: torch.device) -> str:
    """Describe a device and torch, such as "cpu (x86_64, 2 threads), torch 2.8.0"."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        name = f"{platform.processor() or platform.machine()}, {threads} thread{'s' * (threads > 1)}"
    return f"{device} ({name}), torch {torch.__version__}"
