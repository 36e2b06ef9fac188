"""Peak memory of a measurement: of the GPU if there is one, else of this process (without its worker processes)."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def reset_peak_memory(device: torch.device) -> int:
    """Reset the peak, where the system supports it; returns the bytes in use now."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: memory freed earlier must not hide what is allocated next
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the peak of resident memory
    except (OSError, AttributeError, TypeError):  # not Linux, or another C library
        pass
    return _status("VmRSS:") or peak_memory(device)


def peak_memory(device: torch.device) -> int:
    """Peak bytes in use since `reset_peak_memory`, or of the whole process where it cannot be reset; 0 if unknown."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    if peak := _status("VmHWM:"):
        return peak
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(key: str) -> int:
    """A line of Linux's /proc/self/status in bytes; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), 0)
