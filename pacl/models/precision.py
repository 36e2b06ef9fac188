"""In which arithmetic a frozen image tower runs: the one place where ``auto`` is decided.

Only the tower is concerned. Its tokens are float32 again wherever they are compared, and so are texts and heads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:  # commands show their help without torch
    from pacl.models.backbone import Backbone

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def resolve_precision(precision: str, backbone: Backbone) -> Literal["fp32", "bf16"]:
    """What ``auto`` comes to for a backbone on the device that it is on; ``fp32`` and ``bf16`` are what they say.

    ``auto`` is bf16 where the hardware multiplies in it and the tower gains from that: any tower on a GPU, on a CPU
    those that `pacl.models.towers.base.ImageTower.bf16_on_cpu` names.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose from {', '.join(PRECISIONS)}")
    if precision != "auto":
        return "bf16" if precision == "bf16" else "fp32"
    kind = backbone.device.type
    gains = has_bf16(kind) and (kind != "cpu" or backbone.image.bf16_on_cpu)
    return "bf16" if gains else "fp32"


def tower_autocast(precision: str, backbone: Backbone) -> AbstractContextManager[object]:
    """The context that a backbone's image tower runs in, see `resolve_precision`; fp32 ends an outer autocast."""
    import torch

    enabled = resolve_precision(precision, backbone) == "bf16"
    return torch.autocast(backbone.device.type, torch.bfloat16, enabled=enabled)


@lru_cache
def has_bf16(kind: str) -> bool:
    """Whether this machine's devices of a kind (``cpu``, ``cuda``, ``mps``) multiply bfloat16 in hardware.

    On CPUs these are AMX and AVX512-BF16, on Arm the BF16 instructions; elsewhere bfloat16 is emulated and slow. On
    ``mps`` nobody has measured a gain.
    """
    import torch

    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return any(bool(able.get(name)) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # torch before 2.10
