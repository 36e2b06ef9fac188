"""The floating-point precision of the frozen image tower, and how ``auto`` chooses it.

Text towers and heads always run in float32, and tokens are converted to float32 before they are compared with texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from pacl.errors import ArgumentError, UserError

if TYPE_CHECKING:  # commands show their help without torch
    from torch import Tensor

    from pacl.models.backbone import Backbone

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def resolve_precision(precision: str, backbone: Backbone) -> Literal["fp32", "bf16"]:
    """Choose ``fp32`` or ``bf16`` for ``auto``, by the backbone's device; other values are returned unchanged.

    ``auto`` is bf16 where the hardware supports it and the tower is faster with it: any tower on a GPU; on a CPU those
    whose `pacl.models.towers.base.ImageTower.bf16_on_cpu` is True.

    Raises:
        ArgumentError: another precision.
    """
    if precision not in PRECISIONS:
        raise ArgumentError("precision", precision, f"choose from {', '.join(PRECISIONS)}")
    if precision != "auto":
        return "bf16" if precision == "bf16" else "fp32"
    kind = backbone.device.type
    gains = has_bf16(kind) and (kind != "cpu" or backbone.image.bf16_on_cpu)
    return "bf16" if gains else "fp32"


@contextmanager
def without_autocast() -> Iterator[None]:
    """A context in which no autocast of the caller acts: results have the precision of the settings.

    Like `torch.no_grad`, this and `inference` also decorate functions.
    """
    import torch

    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def inference() -> Iterator[None]:
    """`torch.inference_mode`, `without_autocast`."""
    import torch

    with torch.inference_mode(), without_autocast():
        yield


def tower_autocast(precision: str, backbone: Backbone) -> AbstractContextManager[object]:
    """The autocast context for a backbone's image tower, see `resolve_precision`; fp32 disables an outer autocast."""
    import torch

    enabled = resolve_precision(precision, backbone) == "bf16"
    return torch.autocast(backbone.device.type, torch.bfloat16, enabled=enabled)


@lru_cache
def has_bf16(kind: str) -> bool:
    """Whether devices of a type (``cpu``, ``cuda``, ``mps``) support bfloat16 in hardware on this machine.

    On CPUs this means AMX, AVX512-BF16 or Arm's BF16 instructions; without them bfloat16 is emulated and slow. On
    ``mps`` it is not used, since no gain has been measured.
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


def check_conversion(convert: Callable[[Tensor], Tensor]) -> None:
    """Refuse a conversion of a model's weights that no later step could work with: to another dtype, or to no device.

    Args:
        convert: what `torch.nn.Module._apply` gets from `to`, `half`, `double` and so on.

    Raises:
        UserError: the weights would not be float32 any more, or would have no values.
    """
    import torch

    probe = convert(torch.empty(0, dtype=torch.float32))
    if probe.is_meta:
        raise UserError("a model on the meta device has no weights to compute with; move it to cpu, cuda or mps")
    if probe.dtype != torch.float32:
        kind = str(probe.dtype).removeprefix("torch.")
        raise UserError(
            f"a model's weights stay float32, not {kind}; SegmenterSettings(precision='bf16') computes the image tower "
            "in half precision"
        )
