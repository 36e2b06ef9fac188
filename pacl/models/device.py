"""The device that models are computed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacl.errors import ArgumentError

if TYPE_CHECKING:  # commands show their help without torch
    import torch


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: ``auto`` (CUDA if there is a GPU, else MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        ArgumentError: ``device``: no such device, here or at all.
    """
    import torch

    name = str(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArgumentError("device", name, "choose auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ArgumentError("device", name, "choose auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError("device", name, f"torch finds {torch.cuda.device_count()} CUDA devices here; use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ArgumentError("device", name, "torch finds no such device here; use cpu")
    return device
